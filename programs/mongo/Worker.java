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
 * A thread that does commands, and what watches it: a command that takes too long, or more memory than one may, is ended with its
 * reason. It is asked first (check(), where documents are read and compared), then stopped; what it left half done is thrown away with
 * the open store (Database.discard). Never while a commit is under way.
 *
 * Memory: a full collection stops everybody for as long as there is much alive, so who keeps much has to end before there is. What the
 * old generation grows by is counted to the commands that allocate meanwhile, and taken back in their proportion when a collection finds
 * it dead. Documents that are read are cached, and so survive for a while in a command that keeps none: they count to HELD only.
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
    /** What a tenant's command may keep of what it made, and with the documents that it read. */
    private static final long MAX_HEAP = Runtime.getRuntime().maxMemory(), MADE = Math.min(128L << 20, MAX_HEAP / 4), HELD = Math.min(384L << 20, MAX_HEAP / 2);
    /** Documents in the heap are about so many times what they are in the file. */
    private static final int IN_HEAP = 6;
    /** Of the heap in use after a collection: from when on any command is ended. */
    private static final double SCARCE = 0.85;
    private static final ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    private static final Set<Worker> busy = ConcurrentHashMap.newKeySet();

    private Access.User user;
    private boolean running, stopped;      // under this thread's lock
    private long since, allocatedBefore, askedAt;
    private long counted, lately, kept, proved; // the watch's: what it allocated, since the heap grew, what of it is there, was at the last collection
    private volatile long read;
    private volatile String ended;
    private boolean rewrites;

    Worker(Runnable r) {
        super(null, r, "worker", STACK_BYTES);
        setDaemon(true);
    }

    static Worker current() { return (Worker) Thread.currentThread(); }
    Access.User user() { return user; }

    /** A command of user, who is given `given` bytes of documents with it. */
    void begin(Access.User user, long given) {
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

    /** From here on the command is not ended any more; throws when it has been. */
    void settle() {
        synchronized (this) { running = false; }
        synchronized (busy) {
            if (busy.remove(this)) dead += kept;
        }
        if (stopped) // it is on its way
            try {
                for (int i = 0; i < 200; i++) Thread.sleep(10);
            } catch (ThreadDeath | InterruptedException e) { /* here */ }
        check();
    }

    String ended() { return ended; }
    void forget() { ended = null; }

    /** Throws when this thread's command is to end. */
    static void check() {
        if (Thread.currentThread() instanceof Worker w && w.ended != null) throw new Ended(w.ended);
    }

    /** This thread's command writes where it reads, so that it has to have read all before it writes. */
    void rewrite() { rewrites = true; }
    static boolean rewrites() { return Thread.currentThread() instanceof Worker w && w.rewrites; }

    /** Tells this thread's command from the one before. */
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
        } catch (UnsupportedOperationException e) { // Java 20 and later: all that is left is to begin anew, nothing acknowledged is lost
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

    /** The pool where what lives long is. */
    private static MemoryPoolMXBean heap() {
        for (MemoryPoolMXBean p : ManagementFactory.getMemoryPoolMXBeans())
            if (p.getType() == MemoryType.HEAP && p.isCollectionUsageThresholdSupported() && p.getName().matches(".*(Tenured|Old).*")) return p;
        throw new IllegalStateException("this Java's collector has no old generation");
    }

    private static final MemoryPoolMXBean heap = heap();
    private static long used, dead; // of it, when it was looked at last; of that what nobody keeps any more, at most. Under the lock of busy

    /** Whose is what came to the old generation since somebody allocated, or is gone from it. */
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
            long theirs = grown < 0 ? Math.min(0, grown + dead) : grown; // what died was first of all of those that ended
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

    /** Ends who keeps too much. Where most of what was allocated did not live long, the rest may be dead, too: a collection tells, if none did. */
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
        for (int i = 0; i < 100 && w.ended != null; i++) Thread.sleep(BUSY_TICK_MS); // its next command is another
    }

    /** When all that bounds commands was not enough. */
    private static void save(Runnable scarce) throws InterruptedException {
        Worker most = null;
        for (Worker w : busy)
            if (most == null || w.kept > most.kept) most = w;
        if (most != null && most.allocated() > SMALL_BYTES) endNow(most, "it took more memory than there is for one");
        else scarce.run();
        System.gc(); // else what was in use at the last collection would count against the next command
    }

    private static long quietAt, quietFor; // what was used when it was looked at, and for how many seconds little came to it

    /** Once a second. Free room in the heap is what keeps collections away while somebody takes much (jvm.options); at rest it is the system's. */
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

    /** Watches all workers for ever; idle() is called once a second, scarce() when memory is and no command takes it. */
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
