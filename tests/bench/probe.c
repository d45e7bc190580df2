/* The bare limit: what a C program does that trusts its input. Splits at commas, takes types as told, builds BSON, sends
 * inserts of 1,000 to 127.0.0.1:PORT and waits for each answer. No UTF-8, no quotes, no rejects, no checks.
 *   probe FILE PORT TYPES     TYPES: a letter a column: i f s b */
#include <arpa/inet.h>
#include <bson/bson.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned char out[4 << 20];

static unsigned char *put(unsigned char *o, char type, const char *key, size_t n_key, const void *v, size_t n)
{
    *o++ = (unsigned char)type;
    memcpy(o, key, n_key);
    o += n_key;
    memcpy(o, v, n);
    return o + n;
}

int main(int argc, char **argv)
{
    char keys[64][8];
    struct stat st;
    if (argc != 4)
        return 2;
    int fd = open(argv[1], O_RDONLY), s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)atoi(argv[2]))};
    if (fd < 0 || fstat(fd, &st) < 0 || connect(s, (struct sockaddr *)&a, sizeof a) < 0)
        return 1;
    const char *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0), *end = p + st.st_size;
    for (int i = 0; i < 64; i++)
        snprintf(keys[i], sizeof keys[i], "col_%02d", i);
    p = (const char *)memchr(p, '\n', (size_t)st.st_size) + 1;
    bson_t head = BSON_INITIALIZER;
    BSON_APPEND_UTF8(&head, "insert", "rows");
    BSON_APPEND_UTF8(&head, "$db", "bench");
    uint64_t row = 0;
    while (p < end) {
        unsigned char *o = out + 16 + 4, reply[512];
        *o++ = 0;
        memcpy(o, bson_get_data(&head), head.len);
        o += head.len;
        *o++ = 1;
        unsigned char *section = o;
        memcpy(o + 4, "documents", 10);
        o += 14;
        for (int k = 0; k < 1000 && p < end; k++) {
            unsigned char *doc = o;
            o = put(o + 4, 0x12, "_id", 4, &row, 8);
            row++;
            for (int i = 0; argv[3][i]; i++) {
                const char *cell = p;
                while (*p != ',' && *p != '\n')
                    p++;
                uint32_t n = (uint32_t)(p - cell) + 1;
                if (argv[3][i] == 'i') {
                    int32_t v = (int32_t)strtol(cell, NULL, 10);
                    o = put(o, 0x10, keys[i], 7, &v, 4);
                } else if (argv[3][i] == 'f') {
                    double v = strtod(cell, NULL);
                    o = put(o, 0x01, keys[i], 7, &v, 8);
                } else if (argv[3][i] == 'b') {
                    char v = *cell == 't';
                    o = put(o, 0x08, keys[i], 7, &v, 1);
                } else {
                    o = put(o, 0x02, keys[i], 7, &n, 4);
                    memcpy(o, cell, n - 1);
                    o[n - 1] = 0;
                    o += n;
                }
                p++;
            }
            *o++ = 0;
            uint32_t len = (uint32_t)(o - doc);
            memcpy(doc, &len, 4);
        }
        uint32_t len = (uint32_t)(o - section), total = (uint32_t)(o - out), op = 2013;
        memcpy(section, &len, 4);
        memcpy(out, &total, 4);
        memcpy(out + 12, &op, 4);
        for (size_t sent = 0; sent < total;)
            sent += (size_t)write(s, out + sent, total - sent);
        if (read(s, reply, sizeof reply) <= 0)
            return 1;
    }
    printf("{\"rows\":%llu}\n", (unsigned long long)row);
    return 0;
}
