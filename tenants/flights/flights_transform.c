/* A tenant's app: reads flights as CSV on stdin, prints one nested JSON document a line. The platform (output = "stdout")
 * stores what it prints, every row exactly once. It needs nothing of the platform: `flights_transform < flights.csv`
 * works anywhere. Exit: 0 done, 65 the data is not what it knows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

enum col {
    YEAR,
    MONTH,
    DAY,
    DEP_TIME,
    SCHED_DEP_TIME,
    DEP_DELAY,
    ARR_TIME,
    SCHED_ARR_TIME,
    ARR_DELAY,
    CARRIER,
    FLIGHT,
    TAILNUM,
    ORIGIN,
    DEST,
    AIR_TIME,
    DISTANCE,
    HOUR,
    MINUTE,
    TIME_HOUR,
    N_COLS
};

static const char header[] = "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,"
                             "flight,tailnum,origin,dest,air_time,distance,hour,minute,time_hour";

static int split(char *line, char *cells[N_COLS])
{
    int n = 0;
    for (char *p = line; p; n++) {
        char *next = strchr(p, ',');
        if (next)
            *next++ = 0;
        if (n < N_COLS)
            cells[n] = p;
        p = next;
    }
    return n == N_COLS;
}

static const char *number_or_null(const char *cell)
{
    return strcmp(cell, "NA") ? cell : "null";
}

static void print_text_or_null(const char *key, const char *cell)
{
    if (strcmp(cell, "NA"))
        printf("\"%s\":\"%s\"", key, cell);
    else
        printf("\"%s\":null", key);
}

/* The date and time columns are local; time_hour is the same hour in UTC, so the two give the offset. */
static void print_timestamp(char *c[N_COLS])
{
    int local = atoi(c[HOUR]), utc = atoi(c[TIME_HOUR] + 11);
    printf("\"scheduled_at\":{\"$date\":\"%.13s:%02d:00Z\"},\"utc_offset_h\":%d", c[TIME_HOUR], atoi(c[MINUTE]),
           local - utc > 12    ? local - utc - 24
           : local - utc < -12 ? local - utc + 24
                               : local - utc);
}

int main(void)
{
    char line[1024];
    long n = 1;
    if (!fgets(line, sizeof line, stdin))
        return EX_DATAERR;
    line[strcspn(line, "\r\n")] = 0;
    if (strcmp(line, header)) {
        fprintf(stderr, "flights_transform: the header is not that of nycflights13\n");
        return EX_DATAERR;
    }
    while (fgets(line, sizeof line, stdin)) {
        char *c[N_COLS];
        line[strcspn(line, "\r\n")] = 0;
        n++;
        if (!split(line, c) || strlen(c[TIME_HOUR]) < 13) {
            fprintf(stderr, "flights_transform: line %ld does not have %d columns\n", n, N_COLS);
            return EX_DATAERR;
        }
        putchar('{');
        print_timestamp(c);
        printf(",\"carrier\":{\"code\":\"%s\",\"flight\":%s,", c[CARRIER], c[FLIGHT]);
        print_text_or_null("tailnum", c[TAILNUM]);
        printf("},\"route\":{\"origin\":\"%s\",\"dest\":\"%s\",\"distance_km\":%.1f},", c[ORIGIN], c[DEST],
               atof(c[DISTANCE]) * 1.609344);
        printf("\"delay\":{\"departure_min\":%s,\"arrival_min\":%s},", number_or_null(c[DEP_DELAY]), number_or_null(c[ARR_DELAY]));
        printf("\"air_time_min\":%s,\"cancelled\":%s}\n", number_or_null(c[AIR_TIME]),
               strcmp(c[DEP_TIME], "NA") ? "false" : "true");
    }
    return ferror(stdin) || fflush(stdout) ? EX_IOERR : 0;
}
