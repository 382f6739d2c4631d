// The floor under tunnels that seal packet by packet, as WireGuard does: a TCP super-packet from the TUN is split into
// segments with headers and checksums of their own, each is sealed into its own datagram, many datagrams leave in one
// call; on the other side each is opened, and segments that follow each other are merged into a super-packet again.
#include "tunnel.h"

enum {
    DATA_HEADER = 16,    // type, receiver index, counter
    LARGEST_SEND = 65000,
    LARGEST_MERGE = 65000,
    FIN = 0x01,
    PSH = 0x08,
    ACK = 0x10,
};

// ---- the Internet checksum, and fields of a header at any alignment

static uint32_t fold(uint32_t sum) {
    sum = (sum >> 16) + (sum & 0xffff);
    return (sum >> 16) + (sum & 0xffff);
}

static uint32_t add_bytes(const uint8_t *bytes, int n, uint32_t start) {
    uint64_t wide = start;
    uint32_t sum;
    for (; n >= 8; bytes += 8, n -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        wide += (word >> 32) + (uint32_t)word;
    }
    wide = (wide >> 32) + (uint32_t)wide;
    sum = (uint32_t)((wide >> 32) + (uint32_t)wide);
    sum = fold(sum);
    for (; n >= 2; bytes += 2, n -= 2) {
        uint16_t word;
        memcpy(&word, bytes, 2);
        sum += word;
    }
    return fold(n ? sum + *bytes : sum);
}

static uint16_t checksum(const uint8_t *bytes, int n, uint32_t start) {
    return (uint16_t)~fold(add_bytes(bytes, n, start));
}

static uint16_t load16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, 2);
    return ntohs(value);
}

static uint32_t load32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, 4);
    return ntohl(value);
}

static void store16(uint8_t *at, uint16_t value) {
    value = htons(value);
    memcpy(at, &value, 2);
}

static void store32(uint8_t *at, uint32_t value) {
    value = htonl(value);
    memcpy(at, &value, 4);
}

// A checksum is kept in the byte order in which it was summed.
static void store_sum(uint8_t *at, uint16_t sum) {
    memcpy(at, &sum, 2);
}

static int ip_header(const uint8_t *packet) {
    return (packet[0] & 15) * 4;
}

static int tcp_header(const uint8_t *packet) {
    return (packet[ip_header(packet) + 12] >> 4) * 4;
}

static uint32_t pseudo_header(const uint8_t *packet, int transport_bytes) {
    return add_bytes(packet + 12, 8, 0) + htons(packet[9]) + htons((uint16_t)transport_bytes);
}

static void set_ip_length(uint8_t *packet, int length) {
    store16(packet + 2, (uint16_t)length);
    store_sum(packet + 10, 0);
    store_sum(packet + 10, checksum(packet, ip_header(packet), 0));
}

// ---- outbound: split, seal, send

struct batch {
    uint8_t bytes[80000];
    int used, segment;
    uint64_t counter;
    EVP_CIPHER_CTX *cipher;
};

static void flush(struct batch *batch) {
    struct iovec part = {batch->bytes, (size_t)batch->used};
    if (batch->used) {
        int datagrams = (batch->used + batch->segment - 1) / batch->segment;
        send_datagrams(&part, 1, datagrams, (uint16_t)batch->segment);
    }
    batch->used = 0;
}

static void append_sealed(struct batch *batch, const uint8_t *packet, int n) {
    int size = DATA_HEADER + n + TAG;
    if (batch->used && (batch->used + size > LARGEST_SEND || size > batch->segment))
        flush(batch);
    if (!batch->used)
        batch->segment = size;
    uint8_t *datagram = batch->bytes + batch->used;
    memset(datagram, 0, DATA_HEADER);
    datagram[0] = 4;
    memcpy(datagram + 8, &batch->counter, 8);
    seal(batch->cipher, batch->counter++, packet, n, datagram + DATA_HEADER);
    batch->used += size;
}

static void append_segments(struct batch *batch, const uint8_t *packet, int n, int segment_size) {
    static uint8_t segment[BUFFER];
    int ip = ip_header(packet), tcp = tcp_header(packet), headers = ip + tcp, payload = n - headers;
    uint16_t id = load16(packet + 4);
    uint32_t sequence = load32(packet + ip + 4);
    for (int offset = 0; offset < payload; offset += segment_size) {
        int length = payload - offset < segment_size ? payload - offset : segment_size;
        memcpy(segment, packet, (size_t)headers);
        memcpy(segment + headers, packet + headers + offset, (size_t)length);
        store16(segment + 4, id++);
        set_ip_length(segment, headers + length);
        store32(segment + ip + 4, sequence + (uint32_t)offset);
        if (offset + length < payload)
            segment[ip + 13] &= (uint8_t)~(FIN | PSH);
        store_sum(segment + ip + 16, 0);
        store_sum(segment + ip + 16, checksum(segment + ip, tcp + length, pseudo_header(segment, tcp + length)));
        append_sealed(batch, segment, headers + length);
    }
}

static void *outbound(void *unused) {
    static uint8_t buffer[BUFFER];
    static struct batch batch;
    const struct virtio_net_hdr *header = (void *)buffer;
    uint8_t *packet = buffer + VIRTIO_HEADER;
    batch.cipher = new_sealer();
    for (;;) {
        int n = (int)read(tun_fd, buffer, sizeof buffer) - VIRTIO_HEADER;
        if (n <= 0 || packet[0] >> 4 != 4)
            continue;
        if (header->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
            append_segments(&batch, packet, n, header->gso_size);
        } else {
            if (header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
                uint8_t *covered = packet + header->csum_start;
                store_sum(covered + header->csum_offset, checksum(covered, n - header->csum_start, 0));
            }
            append_sealed(&batch, packet, n);
        }
        flush(&batch);
    }
    return unused;
}

// ---- inbound: open, merge, write

// What is being merged: a virtio header and a packet. `headers` is 0 if nothing may be added to it.
static struct {
    uint8_t bytes[BUFFER];
    int length, headers, segment;
    uint32_t next_sequence;
    int push;
} merged;

static uint8_t *const merged_packet = merged.bytes + VIRTIO_HEADER;

static void emit(void) {
    struct virtio_net_hdr *header = (void *)merged.bytes;
    if (!merged.length)
        return;
    memset(header, 0, VIRTIO_HEADER);
    if (merged.headers && merged.length - merged.headers > merged.segment) {
        int ip = ip_header(merged_packet);
        header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        header->gso_size = (uint16_t)merged.segment;
        header->hdr_len = (uint16_t)merged.headers;
        header->csum_start = (uint16_t)ip;
        header->csum_offset = 16;
        set_ip_length(merged_packet, merged.length);
        if (merged.push)
            merged_packet[ip + 13] |= PSH;
        store_sum(merged_packet + ip + 16, (uint16_t)fold(pseudo_header(merged_packet, merged.length - ip)));
    }
    write_tun(merged.bytes, (size_t)(merged.length + VIRTIO_HEADER));
    merged.length = merged.headers = 0;
}

// Whether a segment continues what is being merged: same flow, acknowledgement, window and options, next in sequence.
static int continues(const uint8_t *packet, int ip, int headers, int payload) {
    const uint8_t *tcp = packet + ip, *first = merged_packet + ip;
    return merged.length && merged.headers == headers && payload > 0 && payload <= merged.segment &&
           load32(tcp + 4) == merged.next_sequence && merged.length + payload < LARGEST_MERGE &&
           (tcp[13] & ~PSH) == ACK && !memcmp(merged_packet + 12, packet + 12, 8) && !memcmp(first, tcp, 4) &&
           !memcmp(first + 8, tcp + 8, 4) && !memcmp(first + 20, tcp + 20, (size_t)(headers - ip - 20));
}

static void take(const uint8_t *packet, int n) {
    int ip = ip_header(packet), headers = 0, payload = 0, push = 0;
    if (packet[9] == IPPROTO_TCP && n > 40) {
        headers = ip + tcp_header(packet);
        n = load16(packet + 2);
        payload = n - headers;
        push = packet[ip + 13] & PSH;
        if (continues(packet, ip, headers, payload)) {
            memcpy(merged_packet + merged.length, packet + headers, (size_t)payload);
            merged.length += payload;
            merged.next_sequence += (uint32_t)payload;
            merged.push |= push;
            if (payload < merged.segment || push)
                emit();
            return;
        }
    }
    emit();
    memcpy(merged_packet, packet, (size_t)n);
    merged.length = n;
    merged.push = 0;
    if (payload > 0 && (packet[ip + 13] & ~PSH) == ACK) {
        merged.headers = headers;
        merged.segment = payload;
        merged.next_sequence = load32(packet + ip + 4) + (uint32_t)payload;
        if (!push)
            return;
    }
    emit();
}

static void *inbound(void *unused) {
    static uint8_t datagrams[BUFFER];
    EVP_CIPHER_CTX *cipher = new_opener();
    for (;;) {
        int segment, n = receive_datagrams(datagrams, sizeof datagrams, &segment);
        for (int start = 0; start < n; start += segment) {
            uint8_t *datagram = datagrams + start;
            int length = (n - start < segment ? n - start : segment) - DATA_HEADER - TAG;
            uint64_t counter;
            memcpy(&counter, datagram + 8, 8);
            if (length > 0 && open_in_place(cipher, counter, datagram + DATA_HEADER, length))
                take(datagram + DATA_HEADER, length);
        }
        emit();
    }
    return unused;
}

int main(int argc, char **argv) {
    return run_tunnel(argc, argv, outbound, inbound);
}
