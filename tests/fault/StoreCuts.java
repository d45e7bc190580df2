import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import org.h2.mvstore.AppendMap;
import org.h2.mvstore.DurableFile;
import org.h2.mvstore.MVMap;
import org.h2.mvstore.MVStore;
import org.h2.mvstore.type.ByteArrayDataType;
import org.h2.mvstore.type.LongDataType;
import org.h2.store.fs.FileBaseDefault;
import org.h2.store.fs.FilePath;
import org.h2.store.fs.FilePathWrapper;

/**
 * A store of the embedded MongoDB on a disk in memory, whose power goes at any operation and keeps any 4 KiB of what was not synced, and whose syncs
 * may fail. What was committed is there, whole, each time that the file is opened. Arguments: the first seed, how many seeds, power cuts of each.
 */
public final class StoreCuts {
    private static final int PAGE = 4096;

    private static final class NoPower extends IOException { }

    /** What is on it, what is seen of it, and what was done between the two. */
    private static final class Disk {
        private record Done(int at, byte[] bytes, int size) { } // no bytes: the file was cut off at `size`

        private byte[] synced = new byte[1 << 16], seen = new byte[1 << 16];
        private int nSynced, nSeen, left = Integer.MAX_VALUE;
        private final List<Done> pending = new ArrayList<>();
        private boolean off, fails;

        private void use() throws NoPower {
            if (off || --left < 0) {
                off = true;
                throw new NoPower();
            }
        }

        private static byte[] room(byte[] image, int n) { return n > image.length ? Arrays.copyOf(image, 2 * n) : image; }

        private void see(Done d) {
            if (d.bytes == null) {
                Arrays.fill(seen, d.size, Math.max(d.size, nSeen), (byte) 0);
                nSeen = d.size;
            } else {
                seen = room(seen, d.at + d.bytes.length);
                System.arraycopy(d.bytes, 0, seen, d.at, d.bytes.length);
                nSeen = Math.max(nSeen, d.at + d.bytes.length);
            }
        }

        private void keep(Done d) {
            if (d.bytes == null) {
                Arrays.fill(synced, Math.min(d.size, nSynced), nSynced, (byte) 0);
                nSynced = Math.min(d.size, nSynced);
            } else {
                synced = room(synced, d.at + d.bytes.length);
                System.arraycopy(d.bytes, 0, synced, d.at, d.bytes.length);
                nSynced = Math.max(nSynced, d.at + d.bytes.length);
            }
        }

        void change(Done d) throws NoPower {
            use();
            if (d.bytes == null && d.size >= nSeen) return;
            pending.add(d);
            see(d);
        }

        /** After one that failed the kernel takes what there was to be written for written. */
        void sync() throws IOException {
            use();
            boolean failed = fails;
            fails = false;
            if (!failed) pending.forEach(this::keep);
            pending.clear();
            if (failed) throw new IOException("Input/output error");
        }

        /** None, the first few, or some 4 KiB here and there. */
        void powerBack(Random r) {
            int how = r.nextInt(4), n = how == 0 ? 0 : how == 1 ? r.nextInt(pending.size() + 1) : pending.size();
            double part = how < 2 ? 1 : how == 2 ? 0.9 : r.nextDouble();
            for (Done d : pending.subList(0, n)) {
                if (d.bytes == null && r.nextDouble() < part) keep(d);
                for (int i = 0, to; d.bytes != null && i < d.bytes.length; i = to) {
                    to = Math.min(d.bytes.length, (d.at + i) / PAGE * PAGE + PAGE - d.at);
                    if (r.nextDouble() < part) keep(new Done(d.at + i, Arrays.copyOfRange(d.bytes, i, to), 0));
                    else if (d.at + i >= nSynced && r.nextInt(4) == 0) keep(new Done(d.at + i, new byte[to - i], 0)); // its length is there, and not its bytes
                }
            }
            pending.clear();
            seen = synced.clone();
            nSeen = nSynced;
            off = fails = false;
            left = Integer.MAX_VALUE;
        }
    }

    private static Disk disk;

    /** The disk, to H2. */
    public static final class DiskPath extends FilePathWrapper {
        @Override public String getScheme() { return "disk"; }
        @Override public FileChannel open(String mode) {
            return new FileBaseDefault() {
                @Override public long size() { return disk.nSeen; }
                @Override public int read(ByteBuffer to, long at) throws IOException {
                    if (disk.off) throw new NoPower();
                    int n = (int) Math.min(to.remaining(), disk.nSeen - at);
                    if (n > 0) to.put(disk.seen, (int) at, n);
                    return n > 0 ? n : -1;
                }
                @Override public int write(ByteBuffer from, long at) throws IOException {
                    byte[] b = new byte[from.remaining()];
                    from.get(b);
                    disk.change(new Disk.Done((int) at, b, 0));
                    return b.length;
                }
                @Override protected void implTruncate(long size) throws IOException { disk.change(new Disk.Done(0, null, (int) size)); }
                @Override public void force(boolean metadata) throws IOException { disk.sync(); }
                @Override public FileLock tryLock(long at, long n, boolean shared) {
                    return new FileLock(this, at, n, shared) {
                        @Override public boolean isValid() { return true; }
                        @Override public void release() { }
                    };
                }
                @Override protected void implCloseChannel() { }
            };
        }
    }

    private final Random r;
    private final Path path;
    private final int share; // of what makes a file shrink
    private final List<String> log = new ArrayList<>();
    private MVStore store;
    private AppendMap<Long, byte[]> rows;
    private MVMap<Long, byte[]> some; // of the rows, under the same keys
    private long next;
    private TreeMap<Long, byte[]> told = new TreeMap<>(), last = told; // what was committed; with what may have been

    private StoreCuts(long seed, Path file) {
        r = new Random(seed);
        path = Path.of("disk:" + file);
        share = r.nextInt(3);
    }

    private void open() {
        store = Database.openStore(path, 1);
        rows = store.openMap("rows", new AppendMap.Builder<Long, byte[]>().keyType(LongDataType.INSTANCE).valueType(ByteArrayDataType.INSTANCE));
        some = store.openMap("some", new MVMap.Builder<Long, byte[]>().keyType(LongDataType.INSTANCE).valueType(ByteArrayDataType.INSTANCE));
        next = rows.isEmpty() ? 0 : rows.lastKey() + 1;
    }

    /** As earlier versions made it, by MVStore's own class. */
    private void begin() {
        try (MVStore old = new MVStore.Builder().fileName(path.toString()).autoCommitDisabled().open()) {
            old.setStoreVersion(2);
            AppendMap<Long, byte[]> map = old.openMap("rows", new AppendMap.Builder<Long, byte[]>().keyType(LongDataType.INSTANCE).valueType(ByteArrayDataType.INSTANCE));
            for (int i = 0; i < 200; i++) {
                told.put((long) i, new byte[r.nextInt(300)]);
                map.append((long) i, told.get((long) i));
                if (r.nextInt(20) == 0) old.commit();
            }
            old.commit();
            old.sync();
            if (r.nextBoolean()) old.closeImmediately();
        }
    }

    private void close() {
        try { if (store != null) store.closeImmediately(); } catch (RuntimeException e) { /* there is no power */ }
    }

    private void add() {
        int n = new int[] {1, 1, 20, 100, 500}[r.nextInt(5)], size = new int[] {4, 60, 400, 1500}[r.nextInt(4)];
        for (int i = 0; i < n; i++) {
            byte[] b = new byte[r.nextInt(size) + 1];
            r.nextBytes(b);
            if (b.length < 1024) rows.append(next, b);
            else rows.put(next, b);
            if (r.nextInt(4) == 0) some.put(next, b);
            last.put(next++, b);
        }
    }

    private void delete(int n) {
        for (; n > 0 && !last.isEmpty(); n--) {
            Long k = last.ceilingKey(r.nextLong(next));
            if (k == null) continue;
            rows.remove(k);
            some.remove(k);
            last.remove(k);
        }
    }

    private void commit() {
        if (!store.hasUnsavedChanges()) return;
        disk.fails = r.nextInt(40) == 0;
        store.commit();
        store.sync();
        told = last;
        log.add("committed " + told.size() + " rows, version " + store.getCurrentVersion());
    }

    private void reopen(String why) {
        close();
        open();
        check(why);
    }

    private void act() {
        int what = r.nextInt(20);
        last = new TreeMap<>(told);
        if (what < 13 - 3 * share) add();
        else if (what < 16 - 3 * share) delete(r.nextInt(100));
        else if (what < 18 - 2 * share) delete(last.size() / 2);
        else if (what < 19) {
            ((DurableFile) store.getFileStore()).shrink(5);
            log.add("shrunk");
        } else {
            last = told;
            reopen("closed");
        }
        try {
            commit();
        } catch (RuntimeException e) {
            if (disk.off) throw e;
            last = told; // it was not told, and is not there later
            reopen("a sync failed");
        }
    }

    private void check(String when) {
        TreeMap<Long, byte[]> found = all(rows);
        all(some).forEach((k, v) -> { if (!Arrays.equals(v, found.get(k))) throw new IllegalStateException(when + ": row " + k + " is another one elsewhere"); });
        if (!same(found, told) && !same(found, last))
            throw new IllegalStateException(when + ": " + found.size() + " rows of version " + store.getCurrentVersion() + ", in place of " + told.size() + " or " + last.size());
        told = last = found;
        log.add(when + ": " + found.size() + " rows, version " + store.getCurrentVersion());
    }

    private static TreeMap<Long, byte[]> all(MVMap<Long, byte[]> map) {
        TreeMap<Long, byte[]> found = new TreeMap<>();
        for (org.h2.mvstore.Cursor<Long, byte[]> c = map.cursor(null); c.hasNext();) found.put(c.next(), c.getValue());
        return found;
    }

    private static boolean same(TreeMap<Long, byte[]> a, TreeMap<Long, byte[]> b) {
        if (a.size() != b.size()) return false;
        for (Map.Entry<Long, byte[]> e : a.entrySet()) if (!Arrays.equals(e.getValue(), b.get(e.getKey()))) return false;
        return true;
    }

    private void cut(int i) {
        disk.left = r.nextInt(i == 0 ? 5 : 40);
        try {
            open();
            check("cut " + i);
            for (;;) act();
        } catch (RuntimeException e) {
            if (!disk.off) throw e;
        }
        close();
        disk.powerBack(r);
    }

    /** Whether all was well. */
    private static boolean run(long seed, int cuts, Path file) {
        disk = new Disk();
        StoreCuts s = new StoreCuts(seed, file);
        try {
            if (seed % 3 == 0) s.begin();
            for (int i = 0; i < cuts; i++) s.cut(i);
            s.reopen("at the end");
            s.close();
            return true;
        } catch (RuntimeException e) {
            System.out.println("seed " + seed + ": " + e.getMessage() + (e.getCause() == null ? "" : "; " + e.getCause()));
            s.log.subList(Math.max(0, s.log.size() - 10), s.log.size()).forEach(l -> System.out.println("    " + l));
            return false;
        }
    }

    public static void main(String[] args) throws IOException {
        FilePath.register(new DiskPath());
        Path file = Files.createTempFile("cuts", ".mv");
        long first = Long.parseLong(args[0]);
        int n = Integer.parseInt(args[1]), bad = 0;
        for (long seed = first; seed < first + n; seed++) if (!run(seed, Integer.parseInt(args[2]), file)) bad++;
        Files.delete(file);
        System.out.println(bad + " of " + n + " failed");
        System.exit(bad == 0 ? 0 : 1);
    }
}
