import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/**
 * A thread that does commands, and what watches it: a command that takes too long, or the most memory when that gets scarce, is ended
 * with its reason. It is asked first (check(), where documents are read and compared), then stopped; what it left half done is
 * thrown away with the open store (Database.discard). Never while a commit is under way.
 */
final class Worker extends Thread {
    /** Why a command was ended. */
    @SuppressWarnings("serial")
    static final class Ended extends RuntimeException {
        Ended(String why) { super(why, null, false, false); }
    }

    /** simbdp.commandMs: for tests, which have less time. */
    private static final long TENANT_MS = Long.getLong("simbdp.commandMs", 60_000), PLATFORM_MS = 3_600_000, ASKED_MS = 500, STACK_BYTES = 8 << 20, SMALL_BYTES = 64 << 20;
    /** Of the heap in use after a collection: from when on a tenant's command that has had MUCH times the heap is ended, and when any. */
    private static final double TIGHT = 0.5, SCARCE = 0.85;
    private static final int MUCH = 4;
    private static final ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    private static final Set<Worker> busy = ConcurrentHashMap.newKeySet();

    private Access.User user;
    private boolean running, stopped;      // under this thread's lock
    private long since, allocatedBefore, askedAt;
    private volatile String ended;

    Worker(Runnable r) {
        super(null, r, "worker", STACK_BYTES);
        setDaemon(true);
    }

    static Worker current() { return (Worker) Thread.currentThread(); }
    Access.User user() { return user; }

    void begin(Access.User user) {
        synchronized (this) {
            this.user = user;
            since = System.nanoTime();
            allocatedBefore = threads.getThreadAllocatedBytes(getId());
            ended = null;
            stopped = false;
            running = true;
        }
        busy.add(this);
    }

    /** From here on the command is not ended any more; throws when it has been. */
    void settle() {
        synchronized (this) { running = false; }
        busy.remove(this);
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
        return null;
    }

    /** Watches all workers for ever; idle() is called once a second, scarce() when memory is and no command takes it. */
    static void watch(Runnable idle, Runnable scarce) {
        MemoryPoolMXBean heap = heap();
        if (heap != null) heap.setCollectionUsageThreshold((long) (heap.getUsage().getMax() * TIGHT));
        Thread t = new Thread(() -> {
            for (long n = 1;; n++) {
                try {
                    Thread.sleep(20);
                    for (Worker w : busy) w.checkTime();
                    if (n % 50 == 0) idle.run();
                    if (heap == null || !heap.isCollectionUsageThresholdExceeded()) continue;
                    Worker most = null;
                    for (Worker w : busy)
                        if (most == null || w.allocated() > most.allocated()) most = w;
                    boolean scarceNow = heap.getCollectionUsage().getUsed() > heap.getUsage().getMax() * SCARCE;
                    if (!scarceNow && (most == null || most.user.isPlatform() || most.allocated() < MUCH * heap.getUsage().getMax())) continue;
                    if (most != null && most.allocated() > SMALL_BYTES) {
                        most.end("it took more memory than there is for one", true);
                        for (int i = 0; i < 100 && busy.contains(most); i++) Thread.sleep(10);
                    } else scarce.run();
                    System.gc(); // else what was in use at the last collection would count against the next command
                } catch (InterruptedException | RuntimeException | OutOfMemoryError e) { /* go on */ }
            }
        }, "watch");
        t.setDaemon(true);
        t.setPriority(Thread.MAX_PRIORITY);
        t.start();
    }
}
