#!/bin/bash
# What is done in the guest: each step's output is a file in /out, which the host reads from the second disk.
export MYSIMBDP_HOME=/var/lib/mysimbdp/homes/main LC_ALL=C.UTF-8
mkdir -p /out; cd /out
step() { local n=$1; shift; echo "== $n" >/dev/ttyS0; "$@" >"$n" 2>"$n.err"; echo $? >"$n.rc"; }
drop() { printf 'action,argument\n%s\n' "$2" >"/tmp/$1"; mysimbdp upload acme data "/tmp/$1" >/dev/null; }
until_so() { for _ in $(seq 200); do eval "$1" && return 0; sleep 0.2; done; echo "never: $1" >&2; return 1; }
ended() { [ "$(mysimbdp files --json | grep -c '"state":"\(ingested\|quarantined\)"')" = "$1" ]; }
group_of() { sed -n 's/^0:://p' "/proc/$1/cgroup"; }

host() { systemctl --version | head -1; stat -fc %T /sys/fs/cgroup; cat /sys/fs/cgroup/cgroup.controllers; uname -r; cat /proc/pressure/memory; }
start() {
    mysimbdp init "$MYSIMBDP_HOME" >/dev/null
    mkdir -p "$MYSIMBDP_HOME/apps/acme"
    cp /misbehave "$MYSIMBDP_HOME/apps/acme/"
    cat >"$MYSIMBDP_HOME/apps/acme/hog" <<'APP'
#!/bin/sh
head -c 300000000 /dev/zero | tail >/dev/null
echo went on
APP
    chmod 755 "$MYSIMBDP_HOME/apps/acme/hog"
    cat >"$MYSIMBDP_HOME/conf/profiles.conf" <<'CONF'
profiles = ( { name = "small"; wall_s = 600; grace_s = 1; requests = { cpus = 0.1; memory_bytes = 16777216L; };
    rlimits = { nofile = 64; }; cgroup = { memory_bytes = 67108864L; pids = 12; cpu_pct = 30; }; } );
CONF
    mysimbdp tenant add acme >/dev/null
    cat >"$MYSIMBDP_HOME/conf/tenants/acme.conf" <<'CONF'
concurrency = 4; datasets = ( { name = "data"; format = "csv"; }, { name = "hog"; format = "csv"; } );
batch = ( { app = "app"; exec = "misbehave"; datasets = ("data"); profile = "small"; retry = { attempts = 1; }; },
    { app = "hog"; exec = "hog"; datasets = ("hog"); profile = "small"; retry = { attempts = 1; }; } );
CONF
    mysimbdp check || return 1
    systemctl start mysimbdp@main
}
groups() { # of a run that goes on, of its limits, and of the platform's programs
    drop hang.csv "hang,"
    until_so 'mysimbdp runs --state running --json | grep -q run_id'
    main=$(systemctl show -p MainPID --value mysimbdp@main)
    run=$(pgrep -f '^[^ ]*misbehave' | head -1)
    echo "unit $(systemctl show -p ControlGroup --value mysimbdp@main)"
    echo "up $(group_of "$main")"
    echo "run $(group_of "$run")"
    g=$(group_of "$run")
    for f in memory.max memory.oom.group cpu.max pids.max cgroup.controllers cgroup.procs; do
        for at in "$g" "${g%/*}"; do [ -e "/sys/fs/cgroup$at/$f" ] && echo "$f $at $(tr '\n' ' ' <"/sys/fs/cgroup$at/$f")"; done
    done
}
limits() {
    drop leak.csv "leak,200000000"
    drop fork.csv "fork,30"
    drop daemon.csv "daemon,"
    printf 'a\n1\n' >/tmp/hog.csv; mysimbdp upload acme hog /tmp/hog.csv >/dev/null
    until_so 'ended 4'
    mysimbdp files --json; mysimbdp runs --json
}
cpu() { # what a run that spins gets of a CPU in 10 s
    drop spin.csv "spin,"
    until_so '[ "$(mysimbdp runs --state running --json | grep -c run_id)" = 2 ]'
    spin=$(pgrep -f '^[^ ]*misbehave' | tail -1)
    g=/sys/fs/cgroup$(group_of "$spin")
    sleep 2
    a=$(sed -n 's/usage_usec //p' "$g/cpu.stat"); t=$(date +%s%N)
    sleep 10
    b=$(sed -n 's/usage_usec //p' "$g/cpu.stat"); u=$(date +%s%N)
    echo "$(((b - a) * 100000 / (u - t)))"
}
waited() { # what ended runs waited for, and the kernel's own words on one that goes on
    grep -h run.ended "$MYSIMBDP_HOME"/logs/tenants/acme/events.batch.jsonl
    for f in cpu memory io; do echo "$f $(head -1 "$g/$f.pressure")"; done
    grep throttled_usec "$g/cpu.stat"
    mysimbdp logs "$(mysimbdp runs --json | grep '"app":"hog"' | grep -o '"run_id":"[^"]*"' | cut -d'"' -f4)"
}
killed() { # `up` is, runs go on
    before=$(pgrep -f '^[^ ]*misbehave' | sort | tr '\n' ' ')
    main=$(systemctl show -p MainPID --value mysimbdp@main)
    systemctl kill --kill-who=main -s KILL mysimbdp@main
    until_so '[ "$(systemctl show -p MainPID --value mysimbdp@main)" != "$main" ] && [ "$(systemctl show -p ActiveState --value mysimbdp@main)" = active ]'
    echo "before $before"; echo "after $(pgrep -f '^[^ ]*misbehave' | sort | tr '\n' ' ')"
    mysimbdp runs --state running --json
}
reloaded() { sed -i 's/concurrency = 4/concurrency = 3/' "$MYSIMBDP_HOME/conf/tenants/acme.conf"; systemctl reload mysimbdp@main && mysimbdp history list; }
stopped() {
    systemctl stop mysimbdp@main
    systemctl show -p ActiveState -p Result mysimbdp@main
    echo "left: $(pgrep -f 'misbehave|libexec/mysimbdp' | tr '\n' ' ')"
    find /sys/fs/cgroup -mindepth 2 -path "*/mysimbdp-*/*" -name "01*"
}
step host host
step start start
step status systemctl status mysimbdp@main --no-pager -l
step doctor mysimbdp doctor
step groups groups
step limits limits
step cpu cpu
step waited waited
step tree systemd-cgls --no-pager -l
step killed killed
step reloaded reloaded
step backup systemctl start mysimbdp-backup@main
step stopped stopped
step journal journalctl --no-pager -u 'mysimbdp*' -b
cp -r "$MYSIMBDP_HOME/logs" /out/
tar cf /dev/vdb -C /out .
sync
systemctl poweroff -ff
