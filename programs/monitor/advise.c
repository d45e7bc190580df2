#include "advise.h"

#include "scaling_law.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

static int64_t count(const bson_t *doc, const char *key, int64_t def)
{
    double v = json_get_f64(doc, key, NAN);
    return isnan(v) ? def : v < 0 ? 0 : v > INT32_MAX ? INT32_MAX : (int64_t)v;
}

static void answer(struct scale_memory *memory, const bson_t *doc, struct buf *out)
{
    struct scale_input in = {.now_s = json_get_f64(doc, "now_s", NAN),
                             .ingress_per_s = json_get_f64(doc, "ingress_per_s", NAN),
                             .ready = json_get_f64(doc, "ready", NAN),
                             .leased = json_get_f64(doc, "leased", NAN),
                             .acks_per_busy_s = json_get_f64(doc, "acks_per_busy_s", NAN),
                             .average_s = NAN,
                             .processing_per_s = NAN,
                             .instances = count(doc, "instances", 0),
                             .min = count(doc, "min", 0),
                             .max = count(doc, "max", INT32_MAX),
                             .report_age_s = json_get_f64(doc, "report_age_s", NAN)};
    struct scale_decision d = scale_decide(&scale_defaults, memory, &in);
    json_begin(out, NULL, '{');
    json_f64(out, "now_s", in.now_s);
    json_i64(out, "desired", d.desired);
    json_str(out, "reason", d.reason);
    json_end(out, '}');
}

int advise(FILE *in, FILE *out)
{
    struct scale_memory memory = {0};
    AUTO_FREE char *line = NULL;
    size_t cap = 0;
    int64_t number = 1;
    for (ssize_t n; (n = getline(&line, &cap, in)) > 0; number++) {
        AUTO_BUF struct buf b = {0};
        struct err e = {0};
        while (n && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        AUTO_BSON bson_t *doc = json_parse(line, (size_t)n, &e);
        if (doc) {
            answer(&memory, doc, &b);
        } else {
            json_begin(&b, NULL, '{');
            json_i64(&b, "line", number);
            json_str(&b, "error", e.msg);
            json_end(&b, '}');
        }
        if (fprintf(out, "%s\n", b.p) < 0 || fflush(out) < 0)
            return -EIO;
    }
    return 0;
}
