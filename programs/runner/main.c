/* simbdp-run: `simbdp-run SPEC` executes one step; `simbdp-run --spawn TAG --home HOME` serves a manager on descriptor 3. */
#include "probe.h"
#include "runner.h"
#include "spawner.h"
#include "title.h"

#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "sandbox/confine.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char usage[] = "usage: simbdp-run SPEC            run one step of a run; its directory then holds result.json\n"
                            "       simbdp-run --spawn TAG --home HOME   serve a manager on descriptor 3\n"
                            "       simbdp-run --probe           what isolation this host gives, as JSON\n"
                            "SPEC is a JSON file as lib/run/spec.h describes. Exit: 0 a result was written, 1 the\n"
                            "step could not start, 2 usage.\n";

int main(int argc, char **argv)
{
    struct err e = {0};
    log_init("simbdp-run");
    crash_init();
    if (argc == 2 && !strcmp(argv[1], "--help"))
        return fputs(usage, stdout) < 0;
    if (argc == 2 && !strcmp(argv[1], "--probe"))
        return probe_main();
    if (argc == 5 && !strcmp(argv[1], "--spawn"))
        return title_init(argv[1]), spawner_main(3, argv[2], argv[4]);
    if (argc != 2 || argv[1][0] == '-')
        return fputs(usage, stderr), 2;
    title_init(argv[1]);
    AUTO_BUF struct buf text = {0};
    struct run_spec spec;
    int r = fd_read_file(AT_FDCWD, argv[1], &text, RUN_MAX_SPEC_BYTES, &e);
    if (r == 0)
        r = run_spec_parse(text.p, text.n, &spec, &e);
    if (r == 0) {
        struct cgroup_host cg;
        if (spec.cluster) /* else whoever starts it did */
            confine_manager();
        cgroup_probe(&cg, spec.tag);
        r = runner_main(&spec, &cg, -1, NULL, &e);
        if (spec.cluster) /* they lie below the job's own, which the node's daemon is to remove */
            cgroup_retire(&cg);
        run_spec_free(&spec);
    }
    if (r < 0)
        fprintf(stderr, "simbdp-run: %s\n", e.msg);
    return r < 0;
}
