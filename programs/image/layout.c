#include "layout.h"

#include "base/beneath.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_JSON_BYTES = 1 << 20, CHUNK_BYTES = 1 << 20, MAX_TAGS_SHOWN = 20 };

static const char ref_name[] = "org.opencontainers.image.ref.name";
static const char manifest_type[] = "application/vnd.oci.image.manifest.v1+json";

/* A regular file below the layout, however it got there. */
static int open_file(int layout, const char *path, struct err *e)
{
    struct stat st;
    AUTO_FD int fd = beneath_open(layout, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0)
        return err_sys(e, fd, "cannot open its %s", path);
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_FORMAT, "its %s is no regular file", path);
    return fd_take(&fd);
}

static int read_text(int layout, const char *path, struct buf *ret, struct err *e)
{
    AUTO_FD int fd = open_file(layout, path, e);
    if (fd < 0)
        return fd;
    int r = fd_read_all(fd, ret, MAX_JSON_BYTES);
    return r < 0 ? err_sys(e, r, "cannot read its %s", path) : 0;
}

/* The hex of "sha256:HEX", NULL when it is none. */
static const char *hex_of(const bson_t *descriptor)
{
    const char *digest = json_get_str(descriptor, "digest", "");
    bool good = !strncmp(digest, "sha256:", 7) && strlen(digest + 7) == 64 && strspn(digest + 7, "0123456789abcdef") == 64;
    return good ? digest + 7 : NULL;
}

static const char *ref_of(const bson_t *descriptor)
{
    bson_iter_t it;
    bson_t annotations;
    return bson_iter_init_find(&it, descriptor, "annotations") && json_iter_doc(&it, &annotations)
               ? json_get_str(&annotations, ref_name, "")
               : "";
}

int layout_choose(const char *json, size_t json_n, const char *tag, char ret_digest[LAYOUT_DIGEST_SIZE], struct err *e)
{
    AUTO_BSON bson_t *index = json_parse(json, json_n, e);
    AUTO_BUF struct buf tags = {0};
    bson_iter_t it;
    bson_t d;
    int n = 0, shown = 0;
    bool good = false;
    if (!index) {
        err_context(e, "its index.json");
        return ERR_FORMAT;
    }
    if (!json_get_iter(index, "manifests", &it))
        return err_set(e, ERR_FORMAT, "its index.json lists no manifests");
    while (json_next_doc(&it, &d)) {
        if (shown++ < MAX_TAGS_SHOWN)
            buf_addf(&tags, "%s%s", tags.n ? ", " : "", ref_of(&d));
        if (*tag && strcmp(ref_of(&d), tag))
            continue;
        good = hex_of(&d) && !strcmp(json_get_str(&d, "mediaType", manifest_type), manifest_type);
        snprintf(ret_digest, LAYOUT_DIGEST_SIZE, "%s", good ? hex_of(&d) : "");
        n++;
    }
    if (n != 1)
        return err_set(e, ERR_FORMAT,
                       *tag ? "it has %d images with the tag \"%s\", and not one (there are: %s)"
                            : "it has %d images%s, and not one; name it as PATH:TAG (there are: %s)",
                       n, tag, tags.n ? tags.p : "none");
    if (!good)
        return err_set(e, ERR_FORMAT,
                       "what its index.json names is no OCI image manifest with a SHA-256 digest (one image for one "
                       "platform, as `umoci` and `skopeo copy` make it)");
    return 0;
}

int layout_open(const char *path, const char *tag, char ret_digest[LAYOUT_DIGEST_SIZE], struct err *e)
{
    AUTO_FD int fd = beneath_root(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return err_sys(e, fd, "cannot open %s", path);
    AUTO_BUF struct buf text = {0};
    int r = read_text(fd, "index.json", &text, e);
    if (r == 0)
        r = layout_choose(text.p, text.n, tag, ret_digest, e);
    return r < 0 ? r : fd_take(&fd);
}

/* Returns how many bytes there are. */
static int64_t copy_bytes(int from, int out, const char *hex, int64_t max_bytes, struct err *e)
{
    AUTO_FREE unsigned char *chunk = xmalloc(CHUNK_BYTES);
    unsigned char digest[crypto_hash_sha256_BYTES];
    char got[LAYOUT_DIGEST_SIZE];
    crypto_hash_sha256_state h;
    int64_t total = 0;
    crypto_hash_sha256_init(&h);
    for (ssize_t n; (n = read(from, chunk, CHUNK_BYTES)) != 0; total += n) {
        if (n < 0)
            return err_sys(e, -errno, "cannot read blob %s", hex);
        if (total + n > max_bytes)
            return err_set(e, ERR_LIMIT, "its blobs have more bytes than max_image_bytes");
        crypto_hash_sha256_update(&h, chunk, (unsigned long long)n);
        int r = fd_write_all(out, chunk, (size_t)n);
        if (r < 0)
            return err_sys(e, r, "cannot copy blob %s", hex);
    }
    crypto_hash_sha256_final(&h, digest);
    sodium_bin2hex(got, sizeof got, digest, sizeof digest);
    if (strcmp(got, hex) != 0)
        return err_set(e, ERR_FORMAT, "blob %s is damaged: its bytes have the digest %s", hex, got);
    return total;
}

/* *left loses what it has. */
static int copy_blob(int layout, const char *hex, int to, int64_t *left, struct err *e)
{
    AUTO_FREE char *path = xasprintf("blobs/sha256/%s", hex);
    AUTO_FD int from = open_file(layout, path, e);
    if (from < 0)
        return from;
    AUTO_FD int out = openat(to, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (out < 0)
        return errno == EEXIST ? 0 : err_sys(e, -errno, "cannot copy blob %s", hex); /* a layer may stand there twice */
    int64_t n = copy_bytes(from, out, hex, *left, e);
    if (n >= 0)
        *left -= n;
    return n < 0 ? (int)n : 0;
}

static int copy_parts(int layout, const bson_t *manifest, int to, int64_t *left, struct err *e)
{
    bson_iter_t it;
    bson_t d;
    if (!bson_iter_init_find(&it, manifest, "config") || !json_iter_doc(&it, &d) || !hex_of(&d))
        return err_set(e, ERR_FORMAT, "its manifest names no config");
    int r = copy_blob(layout, hex_of(&d), to, left, e);
    if (r == 0 && !json_get_iter(manifest, "layers", &it))
        return err_set(e, ERR_FORMAT, "its manifest names no layers");
    while (r == 0 && json_next_doc(&it, &d))
        r = hex_of(&d) ? copy_blob(layout, hex_of(&d), to, left, e)
                       : err_set(e, ERR_FORMAT, "its manifest has a layer without a SHA-256 digest");
    return r;
}

int layout_copy(int layout, const char *digest, int to, int64_t max_bytes, struct err *e)
{
    static const char version[] = "{\"imageLayoutVersion\":\"1.0.0\"}\n";
    AUTO_FREE char *path = xasprintf("blobs/sha256/%s", digest);
    int r = fd_mkdirs(to, "blobs/sha256", 0755);
    if (r < 0)
        return err_sys(e, r, "cannot make a copy of it");
    int64_t left = max_bytes;
    r = copy_blob(layout, digest, to, &left, e);
    AUTO_BUF struct buf text = {0};
    if (r == 0)
        r = read_text(to, path, &text, e); /* of the copy, which stays what it is */
    AUTO_BSON bson_t *manifest = r < 0 ? NULL : json_parse(text.p, text.n, e);
    if (r == 0 && !manifest) {
        err_context(e, "its manifest");
        return ERR_FORMAT;
    }
    if (r == 0)
        r = copy_parts(layout, manifest, to, &left, e);
    if (r < 0)
        return r;
    struct stat st;
    if (fstatat(to, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return err_sys(e, -errno, "cannot make a copy of it");
    AUTO_FREE char *index =
        xasprintf("{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%lld,"
                  "\"annotations\":{\"%s\":\"" LAYOUT_REF "\"}}]}\n",
                  manifest_type, digest, (long long)st.st_size, ref_name);
    r = fd_write_file(to, "index.json", index, strlen(index), 0644, e);
    return r < 0 ? r : fd_write_file(to, "oci-layout", version, sizeof version - 1, 0644, e);
}
