/* What can be done with netd, in C.
 *
 *   cc -O2 -o client client.c
 *   client NETD.SOCK ping HOST                    an ICMP echo
 *   client NETD.SOCK echo HOST PORT TEXT          say something to an echo, and hear it
 *   client NETD.SOCK rounds HOST PORT COUNT       say a byte COUNT times, each after the echo of the last; prints us
 *   client NETD.SOCK bulk HOST PORT BYTES         send so much to an echo, while it comes back, and compare
 *   client NETD.SOCK serve PORT                   be an echo, for one connection
 *
 * HOST is an address, a peer's name or its id.
 */
#include "netd.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PIECE = 128 * 1024, AT_ONCE = 4 };

static struct netd netd;

static void check(int status, const char *what) {
    if (status == 0) return;
    if (status == NETD_LOST) fprintf(stderr, "%s: the daemon has gone\n", what);
    else if (status == -302) fprintf(stderr, "%s: the daemon has no interface\n", what);
    else fprintf(stderr, "%s: status %d\n", what, status);
    exit(1);
}

static uint32_t connected(const char *host, const char *port) {
    uint8_t address[NETD_ADDRESS];
    check(netd_resolve(&netd, host, address), host);
    netd_set_port(address, atoi(port));
    uint32_t socket = netd_socket(&netd, NETD_STREAM);
    check(netd.status, "create");
    check(netd_at(&netd, NETD_CONNECT, socket, address), "connect");
    return socket;
}

static void echo(uint32_t socket, const char *text) {
    size_t heard = 0, size = strlen(text);
    check(netd_ask_send(&netd, socket, text, size) ? NETD_LOST : netd_next(&netd), "send");
    while (heard < size) {
        check(netd_ask_receive(&netd, socket, PIECE) ? NETD_LOST : netd_next(&netd), "receive");
        if (netd_size(&netd) == 0) check(-1, "end");
        fwrite(netd_data(&netd), 1, netd_size(&netd), stdout);
        heard += netd_size(&netd);
    }
    putchar('\n');
}

static void rounds(uint32_t socket, long count) {
    struct timespec begin, end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    for (long i = 0; i < count; i++) {
        /* Both at once: one answer says that it was sent, the other what came. */
        check(netd_ask_send(&netd, socket, "x", 1), "send");
        check(netd_ask_receive(&netd, socket, 1), "receive");
        check(netd_next(&netd), "answer");
        check(netd_next(&netd), "answer");
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("%.1f\n", ((end.tv_sec - begin.tv_sec) * 1e6 + (end.tv_nsec - begin.tv_nsec) / 1e3) / count);
}

static void bulk(uint32_t socket, uint64_t size) {
    static uint8_t piece[PIECE + 256];
    uint64_t asked = 0, sent = 0, heard = 0;
    for (size_t i = 0; i < sizeof piece; i++) piece[i] = i;
    for (int i = 0; i < AT_ONCE; i++) check(netd_ask_receive(&netd, socket, PIECE), "receive");
    for (int on_way = 0; heard < size;) {
        while (on_way < AT_ONCE && asked < size) {
            size_t next = size - asked < PIECE ? size - asked : PIECE;
            check(netd_ask_send(&netd, socket, piece, next), "send");
            asked += next;
            on_way++;
        }
        check(netd_next(&netd), "answer");
        if (netd.code == 0x80 + NETD_SEND) {
            on_way--;
            sent += netd_get(netd.fields);
        } else {
            size_t got = netd_size(&netd);
            if (got == 0 || memcmp(netd_data(&netd), piece + heard % 256, got)) check(-1, "compare");
            heard += got;
            check(netd_ask_receive(&netd, socket, PIECE), "receive");
        }
    }
    printf("%llu %llu\n", (unsigned long long)sent, (unsigned long long)heard);
}

static void serve(const char *port) {
    uint8_t address[NETD_ADDRESS] = {0};
    netd_set_port(address, atoi(port));
    uint32_t listener = netd_socket(&netd, NETD_STREAM);
    check(netd.status, "create");
    check(netd_at(&netd, NETD_BIND, listener, address), "bind");
    check(netd_do(&netd, NETD_LISTEN, listener, 8), "listen");
    printf("listening on %u\n", netd_port(netd.fields));
    fflush(stdout);
    check(netd_do(&netd, NETD_ACCEPT, listener, NETD_WAIT), "accept");
    uint32_t socket = netd_get(netd.fields);
    for (;;) {
        check(netd_ask_receive(&netd, socket, PIECE) ? NETD_LOST : netd_next(&netd), "receive");
        if (netd_size(&netd) == 0) break;
        check(netd_ask_send(&netd, socket, netd_data(&netd), netd_size(&netd)) ? NETD_LOST : netd_next(&netd), "send");
    }
    check(netd_do(&netd, NETD_CLOSE, socket, 0), "close");
}

int main(int count, char **words) {
    const char *what = count > 3 ? words[2] : "";
    if (count > 3 && netd_open(&netd, words[1]) < 0) return perror(words[1]), 1;
    if (!strcmp(what, "ping")) {
        uint8_t fields[NETD_ADDRESS + 4];
        check(netd_resolve(&netd, words[3], fields), words[3]);
        netd_put(fields + NETD_ADDRESS, 5000);
        check(netd_call(&netd, NETD_PING, fields, sizeof fields, NULL, 0), "ping");
        printf("%u us\n", netd_get(netd.fields));
    } else if (!strcmp(what, "serve")) serve(words[3]);
    else if (!strcmp(what, "echo") && count == 6) echo(connected(words[3], words[4]), words[5]);
    else if (!strcmp(what, "rounds") && count == 6) rounds(connected(words[3], words[4]), atol(words[5]));
    else if (!strcmp(what, "bulk") && count == 6) bulk(connected(words[3], words[4]), strtoull(words[5], NULL, 10));
    else return fprintf(stderr, "usage: see the head of client.c\n"), 2;
    return 0;
}
