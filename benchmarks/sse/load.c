/* N readers of one SSE stream by epoll, and one publisher that POSTs to the same server at a fixed rate.
 *
 * load HOST PORT STREAM PUBLISH CLIENTS RATE SECONDS        fan-out: every event to every reader
 * load HOST PORT STREAM - CLIENTS FROM UNTIL                herd: all connect at once behind FROM (+ their number mod 97)
 *                                                           and are done when they have seen UNTIL
 *
 * An event holds ..."t":<nanoseconds of CLOCK_MONOTONIC>,"n":<its number>... ; a reader counts it, takes the time since t,
 * and counts a hole where n is not the next. One line of JSON at the end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KEPT = 64, BUCKETS = 200000 /* of 20 us: 4 s */ };
typedef struct { int fd; long last; int kept; char tail[KEPT]; char connected, answered, done; } Reader;

static const char *host; static int port;
static long histogram[BUCKETS + 1], deliveries, holes;
static volatile long published; static volatile int publishing = 1;

static int64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000LL + t.tv_nsec; }

static int dial(int number, int wait) {
    int fd = socket(AF_INET, SOCK_STREAM | (wait ? 0 : SOCK_NONBLOCK), 0), one = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)}, from = {.sin_family = AF_INET};
    inet_pton(AF_INET, host, &to.sin_addr);
    from.sin_addr.s_addr = htonl(0x7f000002 + number % 8); /* ports are scarce: eight addresses of our own */
    bind(fd, (struct sockaddr *)&from, sizeof from);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) { perror("connect"); exit(2); }
    return fd;
}

static void *publisher(void *arg) {
    double *plan = arg; const char *path = *(const char **)(plan + 2);
    int fd = dial(0, 1); char body[512], request[1024], answer[4096], padding[161];
    memset(padding, 'x', 160); padding[160] = 0;
    int64_t begin = now_ns(), end = begin + (int64_t)(plan[1] * 1e9);
    for (long n = 1; ; n++) {
        int64_t due = begin + (int64_t)((n - 1) / plan[0] * 1e9), t = now_ns();
        if (due > end) break;
        if (due > t) { struct timespec s = {(due - t) / 1000000000, (due - t) % 1000000000}; nanosleep(&s, 0); }
        int size = sprintf(body, "{\"t\":%lld,\"n\":%ld,\"pad\":\"%s\"}", (long long)now_ns(), n, padding);
        int total = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, port, size, body);
        if (write(fd, request, total) != total || read(fd, answer, sizeof answer) <= 0 || (answer[9] != '2')) { fprintf(stderr, "publish: %.60s\n", answer); exit(3); }
        published = n;
    }
    publishing = 0; close(fd); return 0;
}

static void digest(Reader *r, char *data, int size) {
    char *at = data, *end = data + size;
    while ((at = memmem(at, end - at, "\"t\":", 4))) {
        char *stop = memchr(at, '}', end - at), *comma = stop ? memmem(at, stop - at, "\"n\":", 4) : memmem(at, end - at, "\"n\":", 4);
        if (!comma || !memchr(comma, ',', end - comma)) break; /* the rest of it comes with the next read */
        int64_t t = strtoll(at + 4, 0, 10); long n = strtol(comma + 4, 0, 10);
        int64_t took = (now_ns() - t) / 20000;
        histogram[took < 0 ? 0 : took > BUCKETS ? BUCKETS : took]++;
        deliveries++;
        if (r->last && n != r->last + 1) holes++;
        r->last = n; at = comma;
    }
}

static int feed(Reader *r) {
    static char buffer[KEPT + 262144 + 1];
    for (;;) {
        memcpy(buffer, r->tail, r->kept);
        int got = read(r->fd, buffer + r->kept, 262144);
        if (got < 0) return errno == EAGAIN ? 0 : -1;
        if (got == 0) return -1;
        int size = r->kept + got; buffer[size] = 0;
        digest(r, buffer, size);
        char *last = size > KEPT ? buffer + size - KEPT : buffer; /* what began there may be whole only next time */
        char *open = 0, *at = last;
        while ((at = memmem(at, buffer + size - at, "\"t\":", 4))) { open = at; at += 4; }
        char *n = open ? memmem(open, buffer + size - open, "\"n\":", 4) : 0;
        if (open && !(n && memchr(n, ',', buffer + size - n))) { r->kept = buffer + size - open; memcpy(r->tail, open, r->kept); }
        else { r->kept = size < 3 ? size : 3; memcpy(r->tail, buffer + size - r->kept, r->kept); }
        if (got < 262144) return 0;
    }
}

static double percentile(double p) {
    long want = deliveries * p, sum = 0;
    for (int i = 0; i <= BUCKETS; i++) if ((sum += histogram[i]) >= want && sum) return i * 0.02;
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 8) { fprintf(stderr, "see the head of load.c\n"); return 64; }
    host = argv[1]; port = atoi(argv[2]); const char *stream = argv[3]; int herd = argv[4][0] == '-';
    int clients = atoi(argv[5]); double rate = atof(argv[6]), seconds = atof(argv[7]); long until = atol(argv[7]);
    struct rlimit most; getrlimit(RLIMIT_NOFILE, &most); most.rlim_cur = most.rlim_max; setrlimit(RLIMIT_NOFILE, &most);
    Reader *readers = calloc(clients, sizeof *readers); int ep = epoll_create1(0), connected = 0, answered = 0, finished = 0;
    struct epoll_event event, events[1024]; int64_t begin = now_ns(), stop = 0; pthread_t thread; int dialled = 0;
    double plan[3] = {rate, seconds}; memcpy(plan + 2, &argv[4], sizeof(char *));
    int64_t first = 0, last_delivery = 0;
    for (;;) {
        for (int i = 0; dialled < clients && i < 64 && (herd || dialled - answered < 256); i++, dialled++) {
            Reader *r = readers + dialled; r->fd = dial(dialled, 0);
            event.events = EPOLLIN | EPOLLOUT; event.data.u32 = dialled; epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &event);
        }
        int ready = epoll_wait(ep, events, 1024, dialled < clients ? 0 : 100);
        for (int i = 0; i < ready; i++) {
            Reader *r = readers + events[i].data.u32;
            if (r->done) continue;
            if (!r->connected) {
                char request[512]; int number = events[i].data.u32; long from = (long)rate + number % 97;
                int size = herd ? sprintf(request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\nLast-Event-ID: %ld\r\n\r\n", stream, port, from)
                                : sprintf(request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/event-stream\r\n\r\n", stream, port);
                if (write(r->fd, request, size) != size) { perror("request"); return 2; }
                r->connected = 1; connected++; r->last = herd ? from : 0;
                event.events = EPOLLIN; event.data.u32 = number; epoll_ctl(ep, EPOLL_CTL_MOD, r->fd, &event);
                continue;
            }
            long before = deliveries;
            int gone = feed(r);
            if (!r->answered) { r->answered = 1; answered++; } /* the head of the stream: only now it is one */
            if (deliveries != before) { last_delivery = now_ns(); if (!first) first = last_delivery; }
            if (gone || (herd && r->last >= until)) { r->done = 1; finished++; epoll_ctl(ep, EPOLL_CTL_DEL, r->fd, 0); if (gone) holes += herd && r->last < until; }
        }
        int64_t t = now_ns();
        if (herd) { if (finished == clients || t - begin > 60000000000LL) break; continue; }
        if (!stop && answered == clients) {
            if (!first && !published && t - begin > 0) { struct timespec calm = {1, 0}; nanosleep(&calm, 0); } /* let the server write its heads */
            for (int i = 0; i < clients; i++) feed(readers + i);
            deliveries = holes = 0; memset(histogram, 0, sizeof histogram);
            pthread_create(&thread, 0, publisher, plan); begin = now_ns(); stop = 1;
        }
        if (stop && !publishing && (deliveries >= (long)clients * published || t - last_delivery > 3000000000LL)) break;
    }
    double took = ((herd ? now_ns() : last_delivery) - begin) / 1e9; long wanted = herd ? clients : (long)clients * published;
    printf("{\"clients\": %d, \"%s\": %g, \"seconds\": %.2f, \"published\": %ld, \"deliveries\": %ld, \"wanted\": %ld, \"per_s\": %.0f, \"holes\": %ld, \"unfinished\": %d, \"p50_ms\": %.2f, \"p99_ms\": %.2f, \"max_ms\": %.2f}\n",
           clients, herd ? "from" : "rate", rate, took, published, deliveries, wanted, deliveries / took, holes, herd ? clients - finished : 0, percentile(0.5), percentile(0.99), percentile(0.999999));
    return 0;
}
