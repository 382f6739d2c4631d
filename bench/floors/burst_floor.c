// The floor under tunnels that seal burst by burst: what one read of the TUN gives (virtio header and a TCP
// super-packet of up to 64 KiB) is sealed by one AEAD call, the ciphertext cut into datagrams, and opened once.
#include "tunnel.h"

enum {
    PIECE = 1424,         // bytes of ciphertext in a datagram
    PIECES_PER_SEND = 44, // 44 x 1448 stays below the 64 KiB of one UDP send
    LARGEST = 65600,
};

struct piece_header {
    uint32_t type, receiver;
    uint64_t counter;
    uint32_t offset, total;
} __attribute__((packed));

static void send_burst(const uint8_t *sealed, int total, uint64_t counter) {
    static struct piece_header headers[PIECES_PER_SEND];
    struct iovec parts[2 * PIECES_PER_SEND];
    int pieces = 0;
    for (int offset = 0; offset < total; offset += PIECE) {
        int n = total - offset < PIECE ? total - offset : PIECE;
        headers[pieces] = (struct piece_header){128, 1, counter, (uint32_t)offset, (uint32_t)total};
        parts[2 * pieces] = (struct iovec){&headers[pieces], sizeof headers[pieces]};
        parts[2 * pieces + 1] = (struct iovec){(void *)(sealed + offset), (size_t)n};
        pieces++;
        if (pieces == PIECES_PER_SEND || offset + PIECE >= total) {
            send_datagrams(parts, (size_t)(2 * pieces), pieces, PIECE + sizeof headers[0]);
            pieces = 0;
        }
    }
}

static void *outbound(void *unused) {
    static uint8_t plain[BUFFER], sealed[BUFFER + TAG];
    EVP_CIPHER_CTX *cipher = new_sealer();
    for (uint64_t counter = 0;;) {
        int n = (int)read(tun_fd, plain, sizeof plain);
        if (n <= VIRTIO_HEADER || plain[VIRTIO_HEADER] >> 4 != 4)
            continue;
        seal(cipher, counter, plain, n, sealed);
        send_burst(sealed, n + TAG, counter);
        counter++;
    }
    return unused;
}

static void *inbound(void *unused) {
    static uint8_t datagrams[BUFFER], burst[BUFFER];
    EVP_CIPHER_CTX *cipher = new_opener();
    uint64_t current = UINT64_MAX;
    uint32_t joined = 0;
    for (;;) {
        int segment, n = receive_datagrams(datagrams, sizeof datagrams, &segment);
        for (int start = 0; start < n; start += segment) {
            const struct piece_header *header = (void *)(datagrams + start);
            int length = (n - start < segment ? n - start : segment) - (int)sizeof *header;
            if (length <= 0 || header->total > LARGEST || header->offset > LARGEST - (uint32_t)length)
                continue;
            if (header->counter != current) {
                current = header->counter;
                joined = 0;
            }
            memcpy(burst + header->offset, header + 1, (size_t)length);
            joined += (uint32_t)length;
            if (joined == header->total && open_in_place(cipher, current, burst, (int)header->total - TAG))
                write_tun(burst, header->total - TAG);
        }
    }
    return unused;
}

int main(int argc, char **argv) {
    return run_tunnel(argc, argv, outbound, inbound);
}
