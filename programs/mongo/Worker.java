import com.sun.management.HotSpotDiagnosticMXBean;
import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A thread that executes commands, and the watch over it. A command that takes too long, or more memory than one may, is ended and told why. It is
 * asked first (check(), where documents are read and compared), then stopped. What it left half done is thrown away with the open store
 * (Database.discard). A command is never ended during a commit.
 *
 * Memory: a full collection stops everybody for as long as much is alive, so a command that keeps much has to end before that. The growth of the old
 * generation is charged to the commands that allocate meanwhile, and credited in the same proportion when a collection finds it dead. Documents that
 * are read are cached, so they survive for a while in a command that keeps none of them: they count to HELD only.
 */
final class Worker extends Thread {
    /** Why a command was ended. */
    @SuppressWarnings("serial")
    static final class Ended extends RuntimeException {
        Ended(String why) { super(why, null, false, false); }
    }

    /** simbdp.commandMs: for tests, which have less time. */
    private static final long TENANT_MS = Long.getLong("simbdp.commandMs", 60_000), PLATFORM_MS = 3_600_000, ASKED_MS = 500, STACK_BYTES = 8 << 20, SMALL_BYTES = 64 << 20;
    private static final int BUSY_TICK_MS = 5, TICK_MS = 20, SECOND = 1000, QUIET_S = 10, LITTLE = 1 << 20;
    /** How much a tenant's command may keep of what it made, and how much together with the documents that it read. */
    private static final long MAX_HEAP = Runtime.getRuntime().maxMemory(), MADE = Math.min(128L << 20, MAX_HEAP / 4), HELD = Math.min(384L << 20, MAX_HEAP / 2);
    /** How many times larger a document is in the heap than in the file, about. */
    private static final int IN_HEAP = 6;
    /** The share of the heap in use after a collection above which some command is ended. */
    private static final double SCARCE = 0.85;
    private static final ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    private static final Set<Worker> busy = ConcurrentHashMap.newKeySet();

    private Users.User user;
    private boolean running, stopped;      // under this thread's lock
    private long since, allocatedBefore, askedAt;
    private long counted, lately, kept, proved; // used by the watch: bytes allocated in all, since the heap grew, still alive, alive at the last collection
    private volatile long read;
    private volatile String ended;
    private boolean rewrites;

    Worker(Runnable r) {
        super(null, r, "worker", STACK_BYTES);
        setDaemon(true);
    }

    static Worker current() { return (Worker) Thread.currentThread(); }
    Users.User user() { return user; }

    /** Begins a command of `user`; `given`: bytes of documents that came with it. */
    void begin(Users.User user, long given) {
        synchronized (this) {
            this.user = user;
            since = System.nanoTime();
            allocatedBefore = threads.getThreadAllocatedBytes(getId());
            counted = lately = kept = proved = 0;
            read = given;
            rewrites = false;
            ended = null;
            stopped = false;
            running = true;
        }
        synchronized (busy) { busy.add(this); }
    }

    /** From here on the command can no longer be ended; throws when it has been ended already. */
    void settle() {
        synchronized (this) { running = false; }
        synchronized (busy) {
            if (busy.remove(this)) dead += kept;
        }
        if (stopped) // the order to stop is on its way
            try {
                for (int i = 0; i < 200; i++) Thread.sleep(10);
            } catch (ThreadDeath | InterruptedException e) { /* here */ }
        check();
    }

    String ended() { return ended; }
    void forget() { ended = null; }

    /** Throws when this thread's command has to end. */
    static void check() {
        if (Thread.currentThread() instanceof Worker w && w.ended != null) throw new Ended(w.ended);
    }

    /** Whether this thread's command writes into what it reads, so that it must have read everything before it writes. */
    void rewrite() { rewrites = true; }
    static boolean rewrites() { return Thread.currentThread() instanceof Worker w && w.rewrites; }

    /** A number that tells this thread's command from the one before. */
    static long begun() { return Thread.currentThread() instanceof Worker w ? w.since : 0; }

    /** This thread has read a document of n bytes. */
    static void read(int n) {
        if (Thread.currentThread() instanceof Worker w) w.read += (long) IN_HEAP * n;
    }

    @SuppressWarnings("deprecation")
    private synchronized void end(String why, boolean atOnce) {
        if (!running || stopped) return;
        long now = System.nanoTime();
        if (ended == null) {
            ended = why;
            askedAt = now;
        }
        if (!atOnce && now - askedAt < ASKED_MS * 1_000_000) return;
        try {
            stop();
            stopped = true;
        } catch (UnsupportedOperationException e) { // Java 20 and later have no Thread.stop: the server starts again; nothing acknowledged is lost
            System.err.println("embedded MongoDB: a command of " + user.name() + " does not end: " + why);
            Runtime.getRuntime().halt(1);
        }
    }

    private synchronized long allocated() {
        return running ? threads.getThreadAllocatedBytes(getId()) - allocatedBefore : 0;
    }

    private synchronized void checkTime() {
        long limit = user == null || !user.isPlatform() ? TENANT_MS : PLATFORM_MS;
        if (running && System.nanoTime() - since > limit * 1_000_000) end("it took longer than " + limit / 1000 + " s", false);
    }

    /** The memory pool of the old generation. */
    private static MemoryPoolMXBean heap() {
        for (MemoryPoolMXBean p : ManagementFactory.getMemoryPoolMXBeans())
            if (p.getType() == MemoryType.HEAP && p.isCollectionUsageThresholdSupported() && p.getName().matches(".*(Tenured|Old).*")) return p;
        throw new IllegalStateException("this Java's collector has no old generation");
    }

    private static final MemoryPoolMXBean heap = heap();
    private static long used, dead; // bytes of it in use when it was looked at last, and at most how much of that is dead. Guarded by the lock of busy

    /** Charges growth of the old generation to those who allocated meanwhile, and credits what is gone from it. */
    private static void account() {
        synchronized (busy) {
            long now = heap.getUsage().getUsed(), grown = now - used, all = 0;
            for (Worker w : busy) {
                long n = Math.max(w.counted, w.allocated());
                w.lately += n - w.counted;
                w.counted = n;
                all += grown < 0 ? w.kept : w.lately;
            }
            if (grown == 0 || grown > 0 && all == 0 && !busy.isEmpty()) return;
            used = now;
            long theirs = grown < 0 ? Math.min(0, grown + dead) : grown; // what died belonged to commands that have ended, first of all
            dead = grown < 0 ? 0 : busy.isEmpty() ? dead + grown : dead;
            for (Worker w : busy) {
                double share = (double) (grown < 0 ? w.kept : w.lately) / Math.max(1, all);
                w.kept = Math.max(0, Math.min(w.counted, w.kept + (long) (theirs * share)));
                if (grown < 0) w.proved = w.kept;
                w.lately = 0;
            }
        }
    }

    private long tooMuch() {
        return user == null || user.isPlatform() ? 0 : Math.max(kept - read - MADE, kept - HELD);
    }

    private static Worker greediest() {
        Worker worst = null;
        for (Worker w : busy)
            if (w.tooMuch() > 0 && (worst == null || w.tooMuch() > worst.tooMuch())) worst = w;
        return worst;
    }

    private static final String TOO_MUCH = "it keeps more in memory than one may (" + (MADE >> 20) + " MB of what it makes, " + (HELD >> 20)
            + " MB with the documents that it reads); ask for less at once";

    /**
     * Ends a command that keeps too much. If most of what it allocated did not live long, the rest may be dead, too; then a collection is made first,
     * unless there just was one.
     */
    private static void bound() throws InterruptedException {
        account();
        Worker w = greediest();
        if (w != null && w.kept < w.counted / 3 && w.proved < MADE / 2) {
            System.gc();
            account();
            w = greediest();
        }
        if (w != null) endNow(w, TOO_MUCH);
    }

    private static void endNow(Worker w, String why) throws InterruptedException {
        w.end(why, true);
        for (int i = 0; i < 100 && w.ended != null; i++) Thread.sleep(BUSY_TICK_MS); // until it has ended; what follows is another command
    }

    /** The last resort, when the bounds of commands were not enough. */
    private static void save(Runnable scarce) throws InterruptedException {
        Worker most = null;
        for (Worker w : busy)
            if (most == null || w.kept > most.kept) most = w;
        if (most != null && most.allocated() > SMALL_BYTES) endNow(most, "it took more memory than there is for one");
        else scarce.run();
        System.gc(); // otherwise what was in use at the last collection would be charged to the next command
    }

    private static long quietAt, quietFor; // bytes in use when it was looked at last, and for how many seconds it hardly grew

    /**
     * Once a second. Free room in the heap is what prevents collections while somebody takes much (jvm.options). At rest it is given back to the
     * system.
     */
    private static void giveBack() {
        if (dead > MADE && busy.isEmpty()) System.gc(); // little is alive, so this is short
        quietFor = used <= quietAt + LITTLE ? quietFor + 1 : 0;
        quietAt = used;
        if (quietFor != QUIET_S) return;
        HotSpotDiagnosticMXBean vm = ManagementFactory.getPlatformMXBean(HotSpotDiagnosticMXBean.class);
        String min = vm.getVMOption("MinHeapFreeRatio").getValue(), max = vm.getVMOption("MaxHeapFreeRatio").getValue();
        vm.setVMOption("MinHeapFreeRatio", "10");
        vm.setVMOption("MaxHeapFreeRatio", "20");
        System.gc();
        vm.setVMOption("MaxHeapFreeRatio", max);
        vm.setVMOption("MinHeapFreeRatio", min);
    }

    /** Watches all workers for ever. idle() is called once a second; scarce() when memory is scarce and no command is to blame. */
    static void watch(Runnable idle, Runnable scarce) {
        heap.setCollectionUsageThreshold((long) (heap.getUsage().getMax() * SCARCE));
        Thread t = new Thread(() -> {
            for (long passed = 0;;) {
                try {
                    int tick = busy.isEmpty() ? TICK_MS : BUSY_TICK_MS;
                    Thread.sleep(tick);
                    for (Worker w : busy) w.checkTime();
                    bound();
                    if (heap.isCollectionUsageThresholdExceeded()) save(scarce);
                    if ((passed += tick) < SECOND) continue;
                    passed = 0;
                    idle.run();
                    giveBack();
                } catch (InterruptedException | RuntimeException | OutOfMemoryError e) { /* go on */ }
            }
        }, "watch");
        t.setDaemon(true);
        t.setPriority(Thread.MAX_PRIORITY);
        t.start();
    }
}
