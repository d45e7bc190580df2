#include "certificate.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MAX_CHAIN = 8, YEARS = 10, YEAR_S = 365 * 86400, NAME_SIZE = 256, SERIAL = 16 };

struct certificate {
    gnutls_pcert_st chain[MAX_CHAIN];
    unsigned n;
    gnutls_privkey_t key;
    char fingerprint[FINGERPRINT_SIZE];
};

/* ---- making one ---- */

static int add_address(gnutls_x509_crt_t crt, const char *text)
{
    unsigned char a[16];
    int n = inet_pton(AF_INET, text, a) == 1 ? 4 : inet_pton(AF_INET6, text, a) == 1 ? 16 : 0;
    return n ? gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, a, (unsigned)n, GNUTLS_FSAN_APPEND) : 0;
}

static int add_names(gnutls_x509_crt_t crt, const char *host)
{
    char name[NAME_SIZE] = "";
    gethostname(name, sizeof name - 1);
    int r = gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "mysimbdp", 8);
    r = r < 0 ? r : gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9, GNUTLS_FSAN_SET);
    if (r == 0 && *name)
        r = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name), GNUTLS_FSAN_APPEND);
    r = r < 0 ? r : add_address(crt, "127.0.0.1");
    r = r < 0 ? r : add_address(crt, "::1");
    return r < 0 ? r : add_address(crt, host);
}

static int fill_in(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *host)
{
    unsigned char serial[SERIAL];
    time_t now = time(NULL);
    int r = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    r = r < 0 ? r : gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);
    serial[0] &= 0x7f; /* RFC 5280, 4.1.2.2: positive */
    r = r < 0 ? r : gnutls_x509_crt_set_version(crt, 3);
    r = r < 0 ? r : gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
    r = r < 0 ? r : gnutls_x509_crt_set_activation_time(crt, now - 86400);
    r = r < 0 ? r : gnutls_x509_crt_set_expiration_time(crt, now + (time_t)YEARS * YEAR_S);
    r = r < 0 ? r : add_names(crt, host);
    r = r < 0 ? r : gnutls_x509_crt_set_key(crt, key);
    r = r < 0 ? r : gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
    r = r < 0 ? r : gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    r = r < 0 ? r : gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
    return r < 0 ? r : gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
}

static int write_both(int dirfd, gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, struct err *e)
{
    gnutls_datum_t c = {0}, k = {0};
    int r = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &c);
    if (r == 0)
        r = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &k);
    r = r < 0 ? err_set(e, -EIO, "cannot write a certificate: %s", gnutls_strerror(r))
              : fd_write_file(dirfd, CERTIFICATE_KEY, k.data, k.size, 0600, e);
    if (r == 0)
        r = fd_write_file(dirfd, CERTIFICATE_FILE, c.data, c.size, 0644, e);
    if (k.data)
        gnutls_memset(k.data, 0, k.size);
    gnutls_free(k.data);
    gnutls_free(c.data);
    return r;
}

int certificate_make(int dirfd, const char *host, struct err *e)
{
    gnutls_x509_crt_t crt = NULL;
    gnutls_x509_privkey_t key = NULL;
    if (fd_exists(dirfd, CERTIFICATE_FILE) && fd_exists(dirfd, CERTIFICATE_KEY))
        return 0;
    int r = gnutls_x509_crt_init(&crt);
    r = r < 0 ? r : gnutls_x509_privkey_init(&key);
    r = r < 0 ? r : fill_in(crt, key, host);
    r = r < 0 ? err_set(e, -EIO, "cannot make a certificate: %s", gnutls_strerror(r)) : write_both(dirfd, crt, key, e);
    gnutls_x509_privkey_deinit(key);
    gnutls_x509_crt_deinit(crt);
    return r < 0 ? r : 1;
}

/* ---- reading one ---- */

static int read_chain(struct certificate *c, const char *pem, size_t n)
{
    gnutls_datum_t d = {(unsigned char *)pem, (unsigned)n};
    c->n = MAX_CHAIN;
    int r = gnutls_pcert_list_import_x509_raw(c->chain, &c->n, &d, GNUTLS_X509_FMT_PEM, GNUTLS_X509_CRT_LIST_FAIL_IF_UNSORTED);
    if (r < 0)
        c->n = 0;
    return r;
}

static const char *check(struct certificate *c, const char *key_pem, size_t n)
{
    gnutls_datum_t d = {(unsigned char *)key_pem, (unsigned)n};
    gnutls_x509_crt_t crt = NULL;
    unsigned char raw[32], of_crt[64], of_key[64];
    size_t n_raw = sizeof raw, n_crt = sizeof of_crt, n_key = sizeof of_key;
    gnutls_privkey_init(&c->key);
    if (gnutls_privkey_import_x509_raw(c->key, &d, GNUTLS_X509_FMT_PEM, NULL, 0) < 0)
        return "the key is none";
    if (gnutls_pcert_export_x509(&c->chain[0], &crt) < 0)
        return "the certificate is none";
    const char *why = NULL;
    gnutls_pubkey_t pub;
    gnutls_pubkey_init(&pub);
    if (gnutls_x509_crt_get_expiration_time(crt) < time(NULL))
        why = "the certificate has expired";
    else if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, raw, &n_raw) < 0 ||
             gnutls_pubkey_import_privkey(pub, c->key, 0, 0) < 0 ||
             gnutls_pubkey_get_key_id(pub, GNUTLS_KEYID_USE_SHA256, of_key, &n_key) < 0 ||
             gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, of_crt, &n_crt) < 0 || n_crt != n_key ||
             memcmp(of_crt, of_key, n_crt))
        why = "certificate and key do not belong together";
    for (size_t i = 0; !why && i < n_raw; i++)
        snprintf(c->fingerprint + 3 * i, 4, "%02X%s", raw[i], i + 1 < n_raw ? ":" : "");
    gnutls_pubkey_deinit(pub);
    gnutls_x509_crt_deinit(crt);
    return why;
}

int certificate_parse(const char *chain, size_t n_chain, const char *key, size_t n_key, struct certificate **ret, struct err *e)
{
    struct certificate *c = xcalloc(1, sizeof *c);
    const char *why = read_chain(c, chain, n_chain) < 0 ? "the certificate is none (PEM, the server's own first)" : NULL;
    if (!why)
        why = check(c, key, n_key);
    if (why) {
        certificate_free(c);
        return err_set(e, ERR_CONFIG, "%s", why);
    }
    *ret = c;
    return 0;
}

void certificate_free(struct certificate *c)
{
    if (!c)
        return;
    for (unsigned i = 0; i < c->n; i++)
        gnutls_pcert_deinit(&c->chain[i]);
    if (c->key)
        gnutls_privkey_deinit(c->key);
    free(c);
}

void certificate_fingerprint(const struct certificate *c, char ret[FINGERPRINT_SIZE])
{
    memcpy(ret, c->fingerprint, FINGERPRINT_SIZE);
}

void certificate_show(const struct certificate *c, gnutls_pcert_st **chain, unsigned *n, gnutls_privkey_t *key)
{
    *chain = (gnutls_pcert_st *)c->chain; /* GnuTLS reads it */
    *n = c->n;
    *key = c->key;
}
