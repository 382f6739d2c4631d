// What both floors stand on: the TUN device, the UDP socket, and ChaCha20-Poly1305 under a fixed key.
//
// A floor is the least work that any user-space tunnel of its kind must do on this machine: two threads, no handshake,
// no peers, no replay window, IPv4 inside. Errors of the network are ignored: a floor only has to be fast.
#ifndef WEFT_BENCH_TUNNEL_H
#define WEFT_BENCH_TUNNEL_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
    VIRTIO_HEADER = 10,
    TAG = 16,
    BUFFER = 70000,
    SOCKET_BUFFER = 8 << 20,
};

static int tun_fd, udp_fd;
static struct sockaddr_in remote;
static const uint8_t key[32];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void open_tun(const char *name) {
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    tun_fd = open("/dev/net/tun", O_RDWR);
    if (tun_fd < 0 || ioctl(tun_fd, TUNSETIFF, &request) < 0)
        fail("tun");
    if (ioctl(tun_fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0)
        fail("tun offload");
}

static struct sockaddr_in endpoint(const char *address, const char *port) {
    struct sockaddr_in end = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (!inet_aton(address, &end.sin_addr))
        fail("address");
    return end;
}

static void open_udp(struct sockaddr_in local) {
    int on = 1, size = SOCKET_BUFFER;
    udp_fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp_fd < 0 || bind(udp_fd, (struct sockaddr *)&local, sizeof local) < 0)
        fail("udp");
    setsockopt(udp_fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    setsockopt(udp_fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(udp_fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
}

// One system call for many datagrams: all of `segment` bytes but the last, which may be shorter.
static void send_datagrams(struct iovec *parts, size_t count, int datagrams, uint16_t segment) {
    char control[CMSG_SPACE(sizeof segment)] = {0};
    struct msghdr message = {
        .msg_name = &remote, .msg_namelen = sizeof remote, .msg_iov = parts, .msg_iovlen = count};
    if (datagrams > 1) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = IPPROTO_UDP;
        header->cmsg_type = UDP_SEGMENT;
        header->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(header), &segment, sizeof segment);
    }
    while (sendmsg(udp_fd, &message, 0) < 0 && errno == ENOBUFS)
        ;
}

// One system call for what GRO merged. Sets `segment` to the size of each datagram but the last.
static int receive_datagrams(uint8_t *buffer, size_t size, int *segment) {
    char control[64];
    struct iovec part = {buffer, size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    int n = (int)recvmsg(udp_fd, &message, 0);
    *segment = n;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == IPPROTO_UDP && header->cmsg_type == UDP_GRO)
            memcpy(segment, CMSG_DATA(header), sizeof *segment);
    return n;
}

static void make_nonce(uint8_t nonce[12], uint64_t counter) {
    memset(nonce, 0, 4);
    memcpy(nonce + 4, &counter, 8);
}

static EVP_CIPHER_CTX *new_sealer(void) {
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(cipher, EVP_chacha20_poly1305(), NULL, key, NULL);
    return cipher;
}

static EVP_CIPHER_CTX *new_opener(void) {
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    EVP_DecryptInit_ex(cipher, EVP_chacha20_poly1305(), NULL, key, NULL);
    return cipher;
}

// Writes n + TAG bytes to `out`.
static void seal(EVP_CIPHER_CTX *cipher, uint64_t counter, const uint8_t *plain, int n, uint8_t *out) {
    uint8_t nonce[12];
    int written;
    make_nonce(nonce, counter);
    EVP_EncryptInit_ex(cipher, NULL, NULL, NULL, nonce);
    EVP_EncryptUpdate(cipher, out, &written, plain, n);
    EVP_EncryptFinal_ex(cipher, out + written, &written);
    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, TAG, out + n);
}

// Opens n bytes of ciphertext, followed by their tag, in place. Returns whether the tag is good.
static int open_in_place(EVP_CIPHER_CTX *cipher, uint64_t counter, uint8_t *sealed, int n) {
    uint8_t nonce[12];
    int written;
    make_nonce(nonce, counter);
    EVP_DecryptInit_ex(cipher, NULL, NULL, NULL, nonce);
    EVP_DecryptUpdate(cipher, sealed, &written, sealed, n);
    EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, TAG, sealed + n);
    return EVP_DecryptFinal_ex(cipher, sealed + written, &written) > 0;
}

static void write_tun(const void *packet, size_t n) {
    if (write(tun_fd, packet, n) < 0)
        return; // a full queue drops, as any link does
}

// Usage of both programs: NAME LOCAL-ADDRESS LOCAL-PORT REMOTE-ADDRESS REMOTE-PORT
static int run_tunnel(int argc, char **argv, void *(*outbound)(void *), void *(*inbound)(void *)) {
    pthread_t receiver;
    if (argc != 6) {
        fprintf(stderr, "usage: %s TUN LOCAL-ADDRESS LOCAL-PORT REMOTE-ADDRESS REMOTE-PORT\n", argv[0]);
        return 2;
    }
    open_tun(argv[1]);
    open_udp(endpoint(argv[2], argv[3]));
    remote = endpoint(argv[4], argv[5]);
    if (pthread_create(&receiver, NULL, inbound, NULL))
        fail("thread");
    outbound(NULL);
    return 0;
}

#endif
