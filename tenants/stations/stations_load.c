/* A sample app on libsimbdp: stores its files as they are configured, with the temperature in Celsius, and leaves out
 * stations that are only on trial. */
#include <simbdp.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

static enum simbdp_verdict on_row(struct simbdp_row *row, void *arg)
{
    const char *station;
    size_t n;
    double fahrenheit;
    (void)arg;
    if (simbdp_row_get_string(row, "station", &station, &n) == 0 && n >= 5 && !strncmp(station, "TRIAL", 5))
        return SIMBDP_SKIP;
    if (simbdp_row_get_double(row, "fahrenheit", &fahrenheit) != 0) {
        simbdp_row_reject(row, "fahrenheit is no number");
        return SIMBDP_REJECT;
    }
    simbdp_row_set_double(row, "celsius", round((fahrenheit - 32) * 5 / 9 * 100) / 100);
    simbdp_row_remove(row, "fahrenheit");
    return SIMBDP_STORE;
}

int main(void)
{
    struct simbdp *run;
    struct simbdp_result result = {.size = sizeof result};
    char error[SIMBDP_ERROR_BYTES];
    int code = simbdp_open(&run, error, sizeof error);
    if (code) {
        fprintf(stderr, "stations_load: %s\n", error);
        return simbdp_exit_code(code);
    }
    simbdp_ingest_file(run, NULL, NULL, on_row, NULL); /* its failure is finish's, too */
    code = simbdp_finish(run, &result);
    if (code)
        fprintf(stderr, "stations_load: %s\n", result.error);
    else
        printf("%lld rows stored, %lld rejected\n", (long long)result.rows_loaded, (long long)result.rows_rejected);
    simbdp_close(run);
    return simbdp_exit_code(code);
}
