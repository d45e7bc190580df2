/* What is checked of the Kafka of streams, and of the file with its settings. */
#include "check.h"

#include "base/mem.h"

#include <ctype.h>
#include <string.h>

enum { MAX_PREFIX = 100, MAX_BROKERS = 2000, MAX_MEMBER = 64 };

/* HOST:PORT, …; [ADDRESS]:PORT. */
static bool is_brokers(const char *s)
{
    while (*s) {
        size_t n = strcspn(s, ",");
        const char *colon = memrchr(s, ':', n);
        size_t digits = colon ? strspn(colon + 1, "0123456789") : 0;
        if (!colon || colon == s || !digits || digits > 5 || colon + 1 + digits != s + n)
            return false;
        for (const char *p = s; p < colon; p++)
            if (!isalnum((unsigned char)*p) && !strchr(".-_:[]", *p))
                return false;
        s += n;
        if (*s == ',' && !*++s)
            return false;
    }
    return true;
}

int conf_check_kafka(const char *file, const struct conf *c, struct err *e)
{
    const struct conf_kafka *k = &c->platform.kafka;
    if (strlen(k->brokers) > MAX_BROKERS || !is_brokers(k->brokers))
        return err_set(e, ERR_CONFIG, "%s: key 'kafka.brokers': \"%s\" is not HOST:PORT, or several of them with commas between",
                       file, k->brokers);
    size_t n = strspn(k->prefix, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-");
    if (!*k->prefix || k->prefix[n] || n > MAX_PREFIX)
        return err_set(e, ERR_CONFIG, "%s: key 'kafka.prefix': \"%s\" must have 1 to %d of A-Z a-z 0-9 - alone", file, k->prefix,
                       MAX_PREFIX);
    n = strspn(k->member, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-");
    if (k->member[n] || n > MAX_MEMBER)
        return err_set(e, ERR_CONFIG, "%s: key 'kafka.member': \"%s\" must have up to %d of A-Z a-z 0-9 - alone", file, k->member,
                       MAX_MEMBER);
    if (*k->properties_file && k->properties_file[0] != '/')
        return err_set(e, ERR_CONFIG, "%s: key 'kafka.properties_file': \"%s\" is no absolute path", file, k->properties_file);
    return 0;
}

/* Who we are and whom we trust; nothing on which a promise rests, and nothing that loads or executes anything. */
static bool may_set(const char *name, size_t n)
{
    static const char *const names[] = {"security.protocol",
                                        "sasl.mechanism",
                                        "sasl.mechanisms",
                                        "sasl.username",
                                        "sasl.password",
                                        "ssl.ca.location",
                                        "ssl.ca.pem",
                                        "ssl.certificate.location",
                                        "ssl.key.location",
                                        "ssl.key.password",
                                        "ssl.cipher.suites",
                                        "ssl.curves.list",
                                        "ssl.sigalgs.list",
                                        "ssl.crl.location",
                                        "ssl.endpoint.identification.algorithm",
                                        "enable.ssl.certificate.verification",
                                        "client.rack",
                                        "broker.address.family"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == n && !memcmp(names[i], name, n))
            return true;
    return false;
}

int conf_kafka_settings(const char *path, const char *text, struct buf *out, struct err *e)
{
    int line = 1;
    for (const char *p = text; *p; line++) {
        size_t n = strcspn(p, "\n"), name = strcspn(p, "=\n");
        size_t len = n && p[n - 1] == '\r' ? n - 1 : n;
        if (len && *p != '#' && (name == n || !may_set(p, name)))
            return err_set(e, ERR_CONFIG,
                           "%s:%d: %.*s cannot be set; there are security.protocol, sasl.… and ssl.… as librdkafka has them", path,
                           line, (int)(name < 60 ? name : 60), p);
        if (len && *p != '#') {
            buf_add(out, p, len);
            buf_adds(out, "\n");
        }
        p += n + (p[n] == '\n');
    }
    return 0;
}
