-------------------------------- MODULE Runs --------------------------------
(* How a file becomes runs, and runs become one verdict, over two managers and machines that come back from the dead.           *)
(*                                                                                                                              *)
(* What is modelled (docs/runs.md): the ledger's transactions, which a manager that was overtaken cannot commit any more (epoch);*)
(* a job of a cluster's scheduler (Slurm) that starts `simbdp-run SPEC` on a node, perhaps once more (requeue); the fence, a     *)
(* directory on shared storage that is made once; result.json; rows under the _ids that the file's bytes give them. On one       *)
(* machine, a node is the machine and a job the spawner's order.                                                                *)
(*                                                                                                                              *)
(* What may happen, up to MaxFaults times: a manager is killed, or overtaken while it only slept; a node is cut off and works on,*)
(* or loses power; a runner is killed; the app fails; the scheduler starts a job again; a run is cancelled.                      *)
(*                                                                                                                              *)
(* Fence, Epoch and Proof turn the three safeguards on. Without any of them a promise breaks: test_runs.py has TLC show it.      *)
EXTENDS Naturals, FiniteSets

CONSTANTS Managers, Nodes, Rows, MaxFaults, Fence, Epoch, Proof

Runs == 1..(MaxFaults + 1)      \* each but the last was ended by a fault
None == 0
NoNode == "no node"

VARIABLES
    file,       \* of the ledger: "queued", "running", "done"
    run,        \* of the ledger: the one that is running, and how many there were; None
    verdicts,   \* of the ledger: how often one was given
    owner,      \* of the ledger: the epoch of the manager that may write
    manager,    \* what a manager believes: its epoch (0: it does not run), and the run that it committed and has not submitted
    job,        \* what the scheduler knows of a run: "none", "pending", "started"
    starting,   \* runners that have not come to the fence: <<run, node>>
    fence,      \* "free", "runner", "manager": who made the directory
    holder,     \* on which node is the runner that did
    app,        \* "none", "runs", "ended", "gone": the app's processes are there; its runner has yet to tell; nothing is left
    result,     \* result.json: "none", "ok", "failed"
    stored,     \* rows in the database
    node,       \* "up"; "cut": nobody hears of it, and it works on; "down"
    faults

vars == <<file, run, verdicts, owner, manager, job, starting, fence, holder, app, result, stored, node, faults>>
ledger == <<file, run, verdicts, owner>>
storage == <<fence, holder, result>>

Init ==
    /\ file = "queued" /\ run = None /\ verdicts = 0 /\ owner = 0
    /\ manager = [m \in Managers |-> [epoch |-> 0, todo |-> None]]
    /\ job = [r \in Runs |-> "none"] /\ starting = {}
    /\ fence = [r \in Runs |-> "free"] /\ holder = [r \in Runs |-> NoNode]
    /\ app = [r \in Runs |-> {}] /\ result = [r \in Runs |-> "none"]
    /\ stored = {} /\ node = [n \in Nodes |-> "up"] /\ faults = 0

Fault == faults < MaxFaults /\ faults' = faults + 1

(* ---- the manager ---- *)

Owns(m) == manager[m].epoch # 0 /\ (manager[m].epoch = owner \/ ~Epoch)
SomebodyOwns == \E m \in Managers : manager[m].epoch # 0 /\ manager[m].epoch = owner

\* Taking over from one that is dead; or from one that only slept.
Take(m) ==
    /\ manager[m].epoch # owner \/ owner = 0
    /\ owner < MaxFaults + 1
    /\ IF SomebodyOwns THEN Fault ELSE UNCHANGED faults
    /\ owner' = owner + 1
    /\ manager' = [manager EXCEPT ![m] = [epoch |-> owner + 1, todo |-> None]]
    /\ UNCHANGED <<file, run, verdicts, job, starting, storage, app, stored, node>>

ManagerDies(m) ==
    /\ manager[m].epoch # 0
    /\ Fault
    /\ manager' = [manager EXCEPT ![m] = [epoch |-> 0, todo |-> None]]
    /\ UNCHANGED <<ledger, job, starting, storage, app, stored, node>>

\* The row comes first.
Dispatch(m) ==
    /\ Owns(m) /\ file = "queued" /\ manager[m].todo = None /\ run + 1 \in Runs
    /\ file' = "running" /\ run' = run + 1
    /\ manager' = [manager EXCEPT ![m].todo = run + 1]
    /\ UNCHANGED <<verdicts, owner, job, starting, storage, app, stored, node, faults>>

\* Whoever slept may do so long after he was overtaken: the scheduler does not know of epochs.
Submit(m) ==
    /\ manager[m].todo # None
    /\ job' = [job EXCEPT ![manager[m].todo] = IF @ = "none" THEN "pending" ELSE @]
    /\ manager' = [manager EXCEPT ![m].todo = None]
    /\ UNCHANGED <<ledger, starting, storage, app, stored, node, faults>>

NobodySubmits(m, r) == Owns(m) /\ file = "running" /\ r = run /\ job[r] = "none" /\ manager[m].todo = None

\* A run that has not begun is kept from beginning. A stop, or what a manager that took over does with a run that nobody submitted.
Cancel(m, r) ==
    /\ manager[m].epoch # 0 /\ r <= run /\ fence[r] = "free"
    /\ IF NobodySubmits(m, r) THEN UNCHANGED faults ELSE Fault
    /\ fence' = [fence EXCEPT ![r] = "manager"]
    /\ UNCHANGED <<ledger, manager, job, starting, holder, app, result, stored, node>>

Requeued(m) ==
    /\ file' = "queued"
    /\ UNCHANGED <<run, verdicts, owner, manager, job, starting, storage, app, stored, node, faults>>

Cancelled(m) == Owns(m) /\ file = "running" /\ fence[run] = "manager" /\ Requeued(m)

\* Proof: the node answers, and nothing of the run is left there. Else it is what the scheduler believes of a node it does not hear.
IsLost(r) ==
    /\ fence[r] = "runner" /\ result[r] = "none"
    /\ IF Proof THEN node[holder[r]] = "up" /\ app[r] = {} ELSE node[holder[r]] # "up" \/ app[r] = {}
Lost(m) == Owns(m) /\ file = "running" /\ IsLost(run) /\ Requeued(m)

Failed(m) == Owns(m) /\ file = "running" /\ result[run] = "failed" /\ Requeued(m)

\* Without epochs, whoever slept commits what it read before.
Verdict(m) ==
    /\ Owns(m) /\ (file = "running" \/ (~Epoch /\ file = "done" /\ manager[m].epoch # owner))
    /\ result[run] = "ok"
    /\ file' = "done" /\ verdicts' = verdicts + 1
    /\ UNCHANGED <<run, owner, manager, job, starting, storage, app, stored, node, faults>>

(* ---- the scheduler ---- *)

Start(r, n) ==
    /\ job[r] = "pending" /\ node[n] = "up"
    /\ job' = [job EXCEPT ![r] = "started"] /\ starting' = starting \cup {<<r, n>>}
    /\ UNCHANGED <<ledger, manager, storage, app, stored, node, faults>>

StartAgain(r) ==
    /\ job[r] = "started" /\ Fault
    /\ job' = [job EXCEPT ![r] = "pending"]
    /\ UNCHANGED <<ledger, manager, starting, storage, app, stored, node>>

(* ---- the runner ---- *)

Works(n) == node[n] # "down"

Begin(r, n) ==
    /\ <<r, n>> \in starting /\ Works(n)
    /\ starting' = starting \ {<<r, n>>}
    /\ IF fence[r] = "free" \/ (~Fence /\ fence[r] = "runner")
       THEN /\ fence' = [fence EXCEPT ![r] = "runner"] /\ holder' = [holder EXCEPT ![r] = n]
            /\ app' = [app EXCEPT ![r] = @ \cup {<<n, "runs">>}]
       ELSE UNCHANGED <<fence, holder, app>>
    /\ UNCHANGED <<ledger, manager, job, result, stored, node, faults>>

Store(r, n, w) ==
    /\ <<n, "runs">> \in app[r] /\ Works(n) /\ w \notin stored
    /\ stored' = stored \cup {w}
    /\ UNCHANGED <<ledger, manager, job, starting, storage, app, node, faults>>

\* All of the app is gone before its result is written.
Ends(r, n) ==
    /\ <<n, "runs">> \in app[r] /\ Works(n) /\ stored = Rows
    /\ app' = [app EXCEPT ![r] = (@ \ {<<n, "runs">>}) \cup {<<n, "ended">>}]
    /\ UNCHANGED <<ledger, manager, job, starting, storage, stored, node, faults>>

Fails(r, n) ==
    /\ <<n, "runs">> \in app[r] /\ Works(n) /\ Fault
    /\ app' = [app EXCEPT ![r] = (@ \ {<<n, "runs">>}) \cup {<<n, "failed">>}]
    /\ UNCHANGED <<ledger, manager, job, starting, storage, stored, node>>

Tell(r, n) ==
    /\ Works(n)
    /\ \E what \in {"ended", "failed"} :
        /\ <<n, what>> \in app[r]
        /\ app' = [app EXCEPT ![r] = @ \ {<<n, what>>}]
        /\ result' = [result EXCEPT ![r] = IF what = "ended" THEN "ok" ELSE "failed"]
    /\ UNCHANGED <<ledger, manager, job, starting, fence, holder, stored, node, faults>>

\* What is left of it is ended by the manager that is there (a cgroup, or the run's id in the environment).
RunnerDies(r, n) ==
    /\ \E what \in {"runs", "ended", "failed"} :
        /\ <<n, what>> \in app[r]
        /\ app' = [app EXCEPT ![r] = @ \ {<<n, what>>}]
    /\ Fault
    /\ UNCHANGED <<ledger, manager, job, starting, storage, stored, node>>

(* ---- nodes ---- *)

Cut(n) ==
    /\ node[n] = "up" /\ Fault
    /\ node' = [node EXCEPT ![n] = "cut"]
    /\ UNCHANGED <<ledger, manager, job, starting, storage, app, stored>>

PowerLoss(n) ==
    /\ node[n] # "down" /\ Fault
    /\ node' = [node EXCEPT ![n] = "down"]
    /\ starting' = {s \in starting : s[2] # n}
    /\ app' = [r \in Runs |-> {a \in app[r] : a[1] # n}]
    /\ UNCHANGED <<ledger, manager, job, storage, stored>>

Back(n) ==
    /\ node[n] # "up"
    /\ node' = [node EXCEPT ![n] = "up"]
    /\ UNCHANGED <<ledger, manager, job, starting, storage, app, stored, faults>>

\* A job whose runner died with its node before it came to the fence is started again: that is the scheduler's, and no fault of its own.
StartLost(r) ==
    /\ job[r] = "started" /\ fence[r] = "free" /\ ~\E n \in Nodes : <<r, n>> \in starting
    /\ job' = [job EXCEPT ![r] = "pending"]
    /\ UNCHANGED <<ledger, manager, starting, storage, app, stored, node, faults>>

(* ---- all of it ---- *)

Work ==
    \/ \E m \in Managers : Dispatch(m) \/ Submit(m) \/ Cancelled(m) \/ Lost(m) \/ Failed(m) \/ Verdict(m)
    \/ \E r \in Runs : StartLost(r) \/ \E n \in Nodes :
        Start(r, n) \/ Begin(r, n) \/ (\E w \in Rows : Store(r, n, w)) \/ Ends(r, n) \/ Tell(r, n)
    \/ \E n \in Nodes : Back(n)
    \/ ~SomebodyOwns /\ \E m \in Managers : Take(m)
    \/ \E m \in Managers, r \in Runs : NobodySubmits(m, r) /\ Cancel(m, r)

Harm ==
    \/ \E m \in Managers : Take(m) \/ ManagerDies(m) \/ \E r \in Runs : Cancel(m, r)
    \/ \E r \in Runs : StartAgain(r) \/ \E n \in Nodes : Fails(r, n) \/ RunnerDies(r, n)
    \/ \E n \in Nodes : Cut(n) \/ PowerLoss(n)

Next == Work \/ Harm
Spec == Init /\ [][Next]_vars /\ WF_vars(Work)

(* ---- the promises ---- *)

Alive(r) == {a \in app[r] : a[2] = "runs"}
OneApp == Cardinality(UNION {{<<r, a>> : a \in Alive(r)} : r \in Runs}) <= 1       \* never twice at once
OneVerdict == verdicts <= 1
WholeFile == file = "done" => stored = Rows                                        \* each row; its _id has it there once
NothingLeft == file = "done" => \A r \in Runs : Alive(r) = {}
Settled == <>(file = "done")                                                       \* each file gets its verdict
=============================================================================
