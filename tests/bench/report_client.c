/* Reports for the monitor, of many instances of one tenant's apps: report_client ENDPOINT APPS INSTANCES RATE SECONDS [full]
 * RATE a second in all, 0: as fast as they are taken. full: with counters and a histogram, as libsimbdp sends them. Prints how many
 * were sent. Without ENDPOINT ("-"): how many a second libbson parses, which is the limit. */
#include <bson/bson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int make(char *out, size_t size, int app, int instance, long seq, int full)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    long long ms = (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    int n = snprintf(
        out, size,
        "{\"metrics\":{\"processing_rate\":100.5,\"throughput\":20100.25,\"average_ingestion_time\":0.0095,"
        "\"total_ingestion_data_size\":%.3f,\"total_number_of_messages\":%ld},\"timeframe\":{\"ingestion_start_time\":%lld,"
        "\"measurement_start_time\":%lld,\"measurement_end_time\":%lld},\"origin\":{\"streaming_app_id\":\"app%d\","
        "\"tenant_id\":\"bench\"},\"instance_id\":\"instance-%d-%d\",\"boot_id\":\"b%d\",\"seq\":%ld",
        (double)seq * 0.02, seq * 100, ms - seq * 1000, ms - 1000, ms, app, app, instance, (int)getpid(), seq);
    if (full) {
        n += snprintf(out + n, size - (size_t)n,
                      ",\"counters\":{\"messages\":%ld,\"bytes\":%ld,\"errors\":0,\"busy_s\":%.6f,\"histogram\":[", seq * 100,
                      seq * 20000, (double)seq * 0.95);
        for (int b = 0; b < 20; b++)
            n += snprintf(out + n, size - (size_t)n, "%s[%d,%ld]", b ? "," : "", 170 + b, seq * 5);
        n += snprintf(out + n, size - (size_t)n, "]}");
    }
    return n + snprintf(out + n, size - (size_t)n, "}");
}

static int limit(int full)
{
    char text[4096];
    int n = make(text, sizeof text, 1, 1, 77, full);
    double began = now();
    long parsed = 0;
    for (; now() - began < 2; parsed++) {
        bson_t *doc = bson_new_from_json((const uint8_t *)text, n, NULL);
        if (!doc)
            return 1;
        bson_destroy(doc);
    }
    printf("%.0f\n", (double)parsed / (now() - began));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 6)
        return 2;
    int apps = atoi(argv[2]), instances = atoi(argv[3]), full = argc > 6;
    double rate = atof(argv[4]), seconds = atof(argv[5]), began = now();
    if (!strcmp(argv[1], "-"))
        return limit(full);
    void *zmq = zmq_ctx_new(), *s = zmq_socket(zmq, ZMQ_PUSH);
    int linger = 10000, patience = 10000;
    zmq_setsockopt(s, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(s, ZMQ_SNDTIMEO, &patience, sizeof patience);
    if (zmq_connect(s, argv[1]) < 0)
        return 1;
    long sent = 0;
    for (; now() - began < seconds; sent++) {
        char text[4096];
        long who = sent % ((long)apps * instances), seq = sent / ((long)apps * instances) + 1;
        int n = make(text, sizeof text, (int)(who % apps), (int)(who / apps), seq, full);
        if (zmq_send(s, text, (size_t)n, 0) < 0)
            return 1;
        while (rate > 0 && (double)sent > (now() - began) * rate && now() - began < seconds)
            zmq_poll(NULL, 0, 1);
    }
    printf("%ld\n", sent);
    zmq_close(s);
    zmq_ctx_term(zmq);
    return 0;
}
