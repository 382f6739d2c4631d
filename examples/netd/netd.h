/* A client of netd, the sockets of a weft daemon (docs/netd.md): one file to copy, C99 and POSIX, no library.
 *
 * Many requests may be on their way at once; each has a number, which its answer has too. What is asked is sent when the
 * program waits for an answer, all of it together, or by netd_flush. As long as a program reads answers between its
 * requests, or has asked for less than 1 MiB at once, neither side waits for the other.
 */
#ifndef NETD_H
#define NETD_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL /* on macOS, where a program ignores SIGPIPE instead */
#define MSG_NOSIGNAL 0
#endif

enum { NETD_CREATE = 1, NETD_CONNECT, NETD_BIND, NETD_LISTEN, NETD_ACCEPT, NETD_SEND, NETD_RECV, NETD_CLOSE, NETD_POLL,
       NETD_STATUS, NETD_SHUTDOWN, NETD_RESOLVE = 20, NETD_PING = 40, NETD_INFO = 41, NETD_SUBSCRIBE = 43, NETD_STATS };
enum { NETD_STREAM = 1, NETD_DATAGRAM = 2, NETD_WAIT = 1, NETD_END = 1, NETD_LOST = -1000 };
enum { NETD_MAX = (1 << 20) + 4, NETD_HEAD = 12, NETD_REPLY = 16, NETD_ADDRESS = 20, NETD_TOGETHER = 4096 };

struct netd {
    int fd;
    uint32_t number;             /* of the last request */
    uint32_t code, request;      /* of the last answer */
    int32_t status;
    size_t length;               /* of its fields */
    size_t at, filled;           /* of what was read: where the next message is, and the end */
    uint8_t *fields;             /* of the last answer, until the next call */
    size_t waiting;              /* to be sent */
    uint8_t requests[NETD_TOGETHER];
    uint8_t buffer[2 * NETD_MAX];
};

static void netd_put(uint8_t *to, uint32_t value) { for (int i = 0; i < 4; i++) to[i] = value >> 8 * i; }
static uint32_t netd_get(const uint8_t *from) {
    return from[0] | from[1] << 8 | from[2] << 16 | (uint32_t)from[3] << 24;
}
static uint16_t netd_port(const uint8_t *address) { return address[2] | address[3] << 8; }
static void netd_set_port(uint8_t *address, uint16_t port) { address[2] = port & 255; address[3] = port >> 8; }

/* Connect with a daemon; -1 and errno if there is none. */
static int netd_open(struct netd *netd, const char *path) {
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof place.sun_path) { errno = ENAMETOOLONG; return -1; }
    strcpy(place.sun_path, path);
    netd->number = 0;
    netd->at = netd->filled = netd->waiting = 0;
    netd->fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return netd->fd < 0 ? -1 : connect(netd->fd, (struct sockaddr *)&place, sizeof place);
}

/* Send the requests that wait, and data behind them. Returns 0 or NETD_LOST. */
static int netd_write(struct netd *netd, const void *data, size_t size) {
    struct iovec parts[2] = {{netd->requests, netd->waiting}, {(void *)data, size}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    netd->waiting = 0;
    while (parts[0].iov_len + parts[1].iov_len > 0) {
        ssize_t written = sendmsg(netd->fd, &message, MSG_NOSIGNAL);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return NETD_LOST;
        for (int i = 0; i < 2; i++) {
            size_t part = (size_t)written < parts[i].iov_len ? (size_t)written : parts[i].iov_len;
            parts[i].iov_base = (uint8_t *)parts[i].iov_base + part;
            parts[i].iov_len -= part;
            written -= part;
        }
    }
    return 0;
}

/* Send what was asked, before waiting for anything but an answer. */
static int netd_flush(struct netd *netd) { return netd_write(netd, NULL, 0); }

/* Ask for something: some fields, and data behind them. Returns 0 or NETD_LOST; its number is netd->number then. */
static int netd_ask(struct netd *netd, uint32_t code, const void *fields, size_t size, const void *data, size_t more) {
    if (netd->waiting + NETD_HEAD + size > NETD_TOGETHER && netd_flush(netd)) return NETD_LOST;
    uint8_t *head = netd->requests + netd->waiting;
    netd_put(head, 8 + size + more);
    netd_put(head + 4, code);
    netd_put(head + 8, ++netd->number);
    if (size) memcpy(head + NETD_HEAD, fields, size);
    netd->waiting += NETD_HEAD + size;
    if (netd->waiting + more > NETD_TOGETHER) return netd_write(netd, data, more);
    if (more) memcpy(netd->requests + netd->waiting, data, more);
    netd->waiting += more;
    return 0;
}

static int netd_fill(struct netd *netd, size_t size) {
    if (netd->at + size > sizeof netd->buffer) {
        memmove(netd->buffer, netd->buffer + netd->at, netd->filled - netd->at);
        netd->filled -= netd->at;
        netd->at = 0;
    }
    while (netd->filled - netd->at < size) {
        ssize_t got = read(netd->fd, netd->buffer + netd->filled, sizeof netd->buffer - netd->filled);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return NETD_LOST;
        netd->filled += got;
    }
    return 0;
}

/* Wait for the next answer, or event. Returns its status, or NETD_LOST. */
static int netd_next(struct netd *netd) {
    if (netd->waiting && netd_flush(netd)) return NETD_LOST;
    if (netd->at == netd->filled) netd->at = netd->filled = 0;
    if (netd_fill(netd, NETD_REPLY)) return NETD_LOST;
    size_t length = netd_get(netd->buffer + netd->at);
    if (length < 12 || length > NETD_MAX - 4 || netd_fill(netd, 4 + length)) return NETD_LOST;
    uint8_t *message = netd->buffer + netd->at;
    netd->code = netd_get(message + 4);
    netd->request = netd_get(message + 8);
    netd->status = (int32_t)netd_get(message + 12);
    netd->fields = message + NETD_REPLY;
    netd->length = length - 12;
    netd->at += 4 + length;
    return netd->status;
}

/* Ask and wait for the answer, while nothing else is on its way. */
static int netd_call(struct netd *netd, uint32_t code, const void *fields, size_t size, const void *data, size_t more) {
    return netd_ask(netd, code, fields, size, data, more) ? NETD_LOST : netd_next(netd);
}

/* What most requests have: a socket, and a number or an address. */
static int netd_do(struct netd *netd, uint32_t code, uint32_t socket, uint32_t number) {
    uint8_t fields[8];
    netd_put(fields, socket);
    netd_put(fields + 4, number);
    return netd_call(netd, code, fields, sizeof fields, NULL, 0);
}

static int netd_at(struct netd *netd, uint32_t code, uint32_t socket, const uint8_t address[NETD_ADDRESS]) {
    uint8_t fields[4 + NETD_ADDRESS];
    netd_put(fields, socket);
    memcpy(fields + 4, address, NETD_ADDRESS);
    return netd_call(netd, code, fields, sizeof fields, NULL, 0);
}

/* Make a socket; its number, or 0 and netd->status. */
static uint32_t netd_socket(struct netd *netd, uint8_t type) {
    uint8_t fields[8] = {0, 0, type};
    return netd_call(netd, NETD_CREATE, fields, sizeof fields, NULL, 0) ? 0 : netd_get(netd->fields);
}

/* Look up a name, or read an address. */
static int netd_resolve(struct netd *netd, const char *name, uint8_t address[NETD_ADDRESS]) {
    uint8_t fields[4] = {0};
    int status = netd_call(netd, NETD_RESOLVE, fields, sizeof fields, name, strlen(name));
    if (status == 0) memcpy(address, netd->fields, NETD_ADDRESS);
    return status;
}

/* Ask for data to be sent, or for data; the answer comes when it is done. */
static int netd_ask_send(struct netd *netd, uint32_t socket, const void *data, size_t size) {
    uint8_t fields[8 + NETD_ADDRESS] = {0};
    netd_put(fields, socket);
    netd_put(fields + 4, NETD_WAIT);
    return netd_ask(netd, NETD_SEND, fields, sizeof fields, data, size);
}

static int netd_ask_receive(struct netd *netd, uint32_t socket, uint32_t most) {
    uint8_t fields[12];
    netd_put(fields, socket);
    netd_put(fields + 4, most);
    netd_put(fields + 8, NETD_WAIT);
    return netd_ask(netd, NETD_RECV, fields, sizeof fields, NULL, 0);
}

/* The data of an answer to RECV; none at the end. */
static const uint8_t *netd_data(const struct netd *netd) { return netd->fields + 4 + NETD_ADDRESS; }
static size_t netd_size(const struct netd *netd) { return netd->length - 4 - NETD_ADDRESS; }

#endif
