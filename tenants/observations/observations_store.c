/* A sample stream app on libsimbdp: stores weather observations, with the temperature in Celsius. A message whose temperature is no
 * number becomes a dead letter. */
#include <simbdp.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>

static struct simbdp *run;

static void on_term(int sig)
{
    (void)sig;
    simbdp_stop(run);
}

static enum simbdp_verdict on_row(struct simbdp_row *row, void *arg)
{
    double fahrenheit;
    (void)arg;
    if (simbdp_row_get_double(row, "temp", &fahrenheit) != 0) {
        simbdp_row_reject(row, "temp is no number");
        return SIMBDP_REJECT;
    }
    simbdp_row_set_double(row, "celsius", round((fahrenheit - 32) * 5 / 9 * 100) / 100);
    simbdp_row_remove(row, "temp");
    return SIMBDP_STORE;
}

int main(void)
{
    char error[SIMBDP_ERROR_BYTES];
    int code = simbdp_open(&run, error, sizeof error);
    if (code) {
        fprintf(stderr, "observations_store: %s\n", error);
        return simbdp_exit_code(code);
    }
    signal(SIGTERM, on_term); /* how the platform asks an instance to go */
    code = simbdp_ingest_stream(run, on_row, NULL);
    if (code)
        fprintf(stderr, "observations_store: %s\n", simbdp_error(run));
    int finished = simbdp_finish(run, NULL);
    simbdp_close(run);
    return simbdp_exit_code(code ? code : finished);
}
