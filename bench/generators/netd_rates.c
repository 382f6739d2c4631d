/* What a program in C reaches with netd, and with an echo on a Unix socket.
 *
 *   netd_rates unix PATH COUNT                  round trips to an echo on a Unix socket
 *   netd_rates own NETD COUNT                   out by one socket of the daemon's host, back by another of it
 *   netd_rates echo NETD HOST PORT COUNT        round trips to an echo behind a tunnel
 *   netd_rates send NETD HOST PORT SECONDS      to a sink that answers with how much came, 8 bytes in network order
 *
 * Round trips are of REQUEST bytes each; printed are the median and the 99th of 100 in microseconds. Of what is sent,
 * the bytes that have arrived are printed, and the seconds.
 */
#include "../../examples/netd/netd.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { REQUEST = 64, PIECE = 128 * 1024, AT_ONCE = 8, ADDRESSES_AT = 52 };

static struct netd netd;
static uint8_t buffer[PIECE];

static void fail(const char *what) {
    fprintf(stderr, "netd_rates: %s: status %d\n", what, netd.status);
    exit(1);
}

static void check(int status, const char *what) {
    if (status) fail(what);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int compare(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

static void report(double *times, long count) {
    qsort(times, count, sizeof *times, compare);
    printf("%.1f %.1f\n", 1e6 * times[count / 2], 1e6 * times[count * 99 / 100]);
}

static void read_all(int fd, size_t size) {
    for (ssize_t got; size > 0; size -= got)
        if ((got = read(fd, buffer, size)) <= 0) fail("read");
}

static void unix_trips(const char *path, long count, double *times) {
    /* Only the connection is netd's; what is said there is not. */
    if (netd_open(&netd, path)) fail(path);
    for (long i = 0; i < count; i++) {
        double begin = now();
        if (write(netd.fd, buffer, REQUEST) != REQUEST) fail("write");
        read_all(netd.fd, REQUEST);
        times[i] = now() - begin;
    }
}

/* The data of one request, from one socket to another, which may be the same. */
static void pass(uint32_t from, uint32_t to) {
    check(netd_ask_send(&netd, from, buffer, REQUEST), "send");
    size_t heard = 0;
    check(netd_ask_receive(&netd, to, REQUEST), "receive");
    for (int is_sent = 0; !is_sent || heard < REQUEST;) {
        check(netd_next(&netd), "answer");
        if (netd.code == 0x80 + NETD_SEND) {
            is_sent = 1;
            continue;
        }
        if (netd_size(&netd) == 0) fail("end");
        heard += netd_size(&netd);
        if (heard < REQUEST) check(netd_ask_receive(&netd, to, REQUEST - heard), "receive");
    }
}

static void trips(uint32_t from, uint32_t to, long count, double *times) {
    for (long i = 0; i < count; i++) {
        double begin = now();
        pass(from, to);
        times[i] = now() - begin;
    }
}

static uint32_t connected(const uint8_t *address) {
    uint32_t socket = netd_socket(&netd, NETD_STREAM);
    check(netd.status, "create");
    check(netd_at(&netd, NETD_CONNECT, socket, address), "connect");
    return socket;
}

static void own_trips(long count, double *times) {
    uint8_t address[NETD_ADDRESS];
    check(netd_call(&netd, NETD_INFO, NULL, 0, NULL, 0), "info");
    memcpy(address, netd.fields + ADDRESSES_AT, NETD_ADDRESS);
    uint32_t listener = netd_socket(&netd, NETD_STREAM);
    check(netd_do(&netd, NETD_LISTEN, listener, 1), "listen");
    netd_set_port(address, netd_port(netd.fields));
    uint32_t one = connected(address);
    check(netd_do(&netd, NETD_ACCEPT, listener, NETD_WAIT), "accept");
    trips(one, netd_get(netd.fields), count, times);
}

static uint32_t reached(const char *host, const char *port) {
    uint8_t address[NETD_ADDRESS];
    check(netd_resolve(&netd, host, address), host);
    netd_set_port(address, atoi(port));
    return connected(address);
}

static void send_for(uint32_t socket, double seconds) {
    double begin = now();
    int on_way = 0;
    for (int is_over = 0; !is_over || on_way;) {
        is_over = is_over || now() - begin >= seconds;
        while (!is_over && on_way < AT_ONCE) {
            check(netd_ask_send(&netd, socket, buffer, PIECE), "send");
            on_way++;
        }
        check(netd_next(&netd), "answer");
        on_way--;
    }
    check(netd_do(&netd, NETD_SHUTDOWN, socket, 1), "shutdown");
    uint64_t arrived = 0;
    for (size_t heard = 0; heard < 8;) {
        check(netd_ask_receive(&netd, socket, 8 - heard), "receive");
        check(netd_next(&netd), "answer");
        if (netd_size(&netd) == 0) fail("end");
        for (size_t i = 0; i < netd_size(&netd); i++) arrived = arrived << 8 | netd_data(&netd)[i];
        heard += netd_size(&netd);
    }
    printf("%llu %.6f\n", (unsigned long long)arrived, now() - begin);
}

int main(int count, char **words) {
    const char *what = count > 3 ? words[1] : "";
    long trip_count = atol(words[count - 1]);
    double *times = calloc(trip_count + 1, sizeof *times);
    if (!strcmp(what, "unix")) {
        unix_trips(words[2], trip_count, times);
        report(times, trip_count);
        return 0;
    }
    if (count > 3 && netd_open(&netd, words[2])) fail(words[2]);
    if (!strcmp(what, "own")) own_trips(trip_count, times);
    else if (!strcmp(what, "echo") && count == 6) {
        uint32_t socket = reached(words[3], words[4]);
        trips(socket, socket, trip_count, times);
    } else if (!strcmp(what, "send") && count == 6) return send_for(reached(words[3], words[4]), atof(words[5])), 0;
    else return fprintf(stderr, "usage: see the head of netd_rates.c\n"), 2;
    report(times, trip_count);
    return 0;
}
