/* JetStream's side of scripts/bench stream, with its own C client.
 *
 *     peer_nats publish URL N BYTES     asynchronously, all acknowledged; makes the stream (file store) anew
 *     peer_nats consume URL N           pulled in batches, each message acknowledged */
#include <nats/nats.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PENDING = 8000, FETCH = 1000, TIMEOUT_MS = 10000 };

static void check(natsStatus s, const char *what)
{
    if (s == NATS_OK)
        return;
    fprintf(stderr, "peer_nats: %s: %s\n", what, nats_GetLastError(NULL) ? nats_GetLastError(NULL) : natsStatus_GetText(s));
    exit(1);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void publish(jsCtx *js, long n, size_t size)
{
    jsStreamConfig c;
    jsErrCode code;
    const char *subjects[] = {"bench"};
    char *m = calloc(1, size);
    memset(m, 'x', size);
    js_DeleteStream(js, "BENCH", NULL, &code);
    jsStreamConfig_Init(&c);
    c.Name = "BENCH";
    c.Subjects = subjects;
    c.SubjectsLen = 1;
    c.Storage = js_FileStorage;
    check(js_AddStream(NULL, js, &c, NULL, &code), "stream");
    double began = now_s();
    for (long i = 0; i < n; i++)
        check(js_PublishAsync(js, "bench", m, (int)size, NULL), "publish");
    check(js_PublishAsyncComplete(js, NULL), "acknowledgements");
    printf("%.0f\n", (double)n / (now_s() - began));
    free(m);
}

static void consume(natsConnection *nc, jsCtx *js, long n)
{
    natsSubscription *sub = NULL;
    jsErrCode code;
    check(js_PullSubscribe(&sub, js, "bench", "worker", NULL, NULL, &code), "subscribe");
    double began = now_s();
    for (long got = 0; got < n;) {
        natsMsgList list = {0};
        check(natsSubscription_Fetch(&list, sub, FETCH, TIMEOUT_MS, &code), "fetch");
        for (int i = 0; i < list.Count; i++)
            check(natsMsg_Ack(list.Msgs[i], NULL), "ack");
        got += list.Count;
        natsMsgList_Destroy(&list);
    }
    check(natsConnection_Flush(nc), "flush");
    printf("%.0f\n", (double)n / (now_s() - began));
    natsSubscription_Destroy(sub);
}

int main(int argc, char **argv)
{
    natsConnection *nc = NULL;
    jsCtx *js = NULL;
    jsOptions o;
    if (argc < 4)
        return 2;
    check(natsConnection_ConnectTo(&nc, argv[2]), "connect");
    jsOptions_Init(&o);
    o.PublishAsync.MaxPending = PENDING;
    check(natsConnection_JetStream(&js, nc, &o), "JetStream");
    if (!strcmp(argv[1], "publish") && argc == 5)
        publish(js, atol(argv[3]), (size_t)atol(argv[4]));
    else if (!strcmp(argv[1], "consume") && argc == 4)
        consume(nc, js, atol(argv[3]));
    else
        return 2;
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    nats_Close();
    return 0;
}
