import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.Cursor;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.CursorNotFoundException;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.exception.MongoServerException;
import io.netty.channel.Channel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.SecureRandom;
import java.util.ArrayDeque;
import java.util.Comparator;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Executor;
import org.h2.mvstore.DurableFile;
import org.h2.mvstore.MVStore;
import org.h2.mvstore.MVStoreException;

/**
 * One database: a store of its own in a file of its own, a backend that knows no other database, and a turn of its own: one command at a time, in the
 * order they came, beside those of other databases. No request here can reach, stop or wait for another database.
 *
 * Durability: as it comes, MVStore commits on a background thread about once a second, so kill -9 loses documents that were acknowledged. Here
 * autocommit is off, and a command that may write ends with commit() and sync() before its reply is sent. The write buffer has no limit, since above
 * it MVStore would commit in the middle of a command, and a kill then leaves a document without its entry in the index of _id. What a power cut leaves
 * of a commit is DurableFile's.
 *
 * When a command fails in another way than by the library's own refusal (it was ended, memory or stack ran out, the store panicked, the disk is
 * full), the open store is thrown away: the next command opens the file as the last commit left it.
 */
final class Database {
    private static final int MAX_CURSORS = 200, MAX_KEYS = 500_000, BATCH = 1000, MANY = 1 << 20, BATCH_BYTES = 1 << 20, MAX_BATCH_BYTES = 16 << 20, MAX_REPLY = 48_000_000, CACHES_MB = 64, MAX_CACHE_MB = 16, RECENT_MB = 96, MAX_RECENT_MB = 32, MAX_OPEN = 48;
    private static final int COMPACT_MS = 1000, FULL = 80;
    private static final long COMPACT_BYTES = 64L << 20;
    /** When the file system has less than that, nothing is added, so that deletes, and the programs beside us, have room to write. */
    private static final long SPARE_BYTES = 8L << 20;
    /** MongoDB's codes: the disk is full; the command was interrupted, and may be sent again. */
    private static final int NO_SPACE = 14031, INTERRUPTED = 11600;
    private static final long IDLE_NS = 60_000_000_000L, TIDY_NS = 3_000_000_000L, CURSOR_NS = 600_000_000_000L;
    private static final SecureRandom random = new SecureRandom();

    private final String name;
    private final Path file;
    private final Executor workers;
    private final ArrayDeque<Runnable> turns = new ArrayDeque<>();
    private boolean active;
    private volatile boolean tidy; // what is done while it is idle has been done
    private volatile long usedAt = System.nanoTime();
    private long saidAt;
    private MVStore store;
    private BsonMaps maps;
    private Backend backend;
    private volatile Cursors cursors = new Cursors();
    private int cacheMb; // of the open store
    private static final Set<Database> opened = new LinkedHashSet<>(); // those whose stores are open, under its lock

    Database(String name, Path file, Executor workers) { this.name = name; this.file = file; this.workers = workers; }

    /** Cursors have ids that cannot be guessed, and belong to one user. When there are too many, the one unused for longest goes. */
    static final class Cursors extends CursorRegistry {
        private record Kept(Cursor cursor, String user, long at) { }
        private final Map<Long, Kept> kept = new LinkedHashMap<>(16, 0.75f, true);

        private static String user() { return Thread.currentThread() instanceof Worker w && w.user() != null ? w.user().name() : ""; }

        @Override public long generateCursorId() { return random.nextLong() >>> 1 | 1; }
        @Override public synchronized Cursor getCursor(long id) {
            Kept k = kept.get(id);
            if (k == null || !k.user.equals(user())) throw new CursorNotFoundException(id);
            kept.put(id, new Kept(k.cursor, k.user, System.nanoTime()));
            return k.cursor;
        }
        @Override public boolean remove(Cursor cursor) { return remove(cursor.getId()); }
        @Override public synchronized boolean remove(long id) {
            Kept k = kept.get(id);
            return k != null && k.user.equals(user()) && kept.remove(id) != null;
        }
        @Override public synchronized void add(Cursor cursor) {
            kept.put(cursor.getId(), new Kept(cursor, user(), System.nanoTime()));
            while (kept.size() > MAX_CURSORS || kept.size() > 1 && keys() > MAX_KEYS) dropFirst();
        }
        private long keys() { return kept.values().stream().mapToLong(k -> StreamedCollection.keysOf(k.cursor)).sum(); }
        @Override public synchronized int size() { return kept.size(); }
        private void dropFirst() {
            Iterator<?> i = kept.values().iterator();
            i.next();
            i.remove();
        }
        synchronized void expire() {
            long now = System.nanoTime();
            kept.values().removeIf(k -> now - k.at > CURSOR_NS);
        }
    }

    private final class Backend extends H2Backend {
        Backend(MVStore store) { super(store); }

        /** The wall between databases: no other name exists here, however it is asked for. */
        @Override protected MongoDatabase openOrCreateDatabase(String asked) {
            if (!asked.equals(name)) throw elsewhere(asked);
            return maps.database(name, cursors); // super() opens what there is
        }

        private MongoCollection<?> collection(Object named) { return named instanceof String s ? resolveDatabase(name).resolveCollection(s, false) : null; }

        /** The reply to a "find" whose documents need not be decoded, or to a pipeline that only counts; null: the library has to do it. */
        Document shortcut(String command, Document query) {
            if (command.equals("find") && collection(query.get("find")) instanceof StreamedCollection c)
                return c.find(query, isBatch(query.get("batchSize")) ? ((Number) query.get("batchSize")).intValue() : MANY, bytesOf(query));
            return command.equals("aggregate") && collection(query.get("aggregate")) instanceof StreamedCollection c ? Counting.reply(c, query) : null;
        }

        @Override protected Document handleGetMore(String database, String command, Document query) {
            long id = ((Number) query.get(command)).longValue();
            Cursor cursor = cursors.getCursor(id);
            boolean counts = isBatch(query.get("batchSize")), stored = cursor instanceof StreamedCollection.Scan s && s.isWhole();
            int n = counts ? ((Number) query.get("batchSize")).intValue() : stored ? MANY : BATCH;
            List<Document> batch = stored ? ((StreamedCollection.Scan) cursor).takeStored(n, bytesOf(query)) : cursor.takeDocuments(n);
            if (cursor.isEmpty()) {
                cursors.remove(id);
                id = 0;
            }
            return StreamedCollection.reply("nextBatch", id, name + "." + query.get("collection"), batch);
        }

        @Override protected Document handleKillCursors(Document query) {
            Document reply = new Document();
            java.util.ArrayList<Object> killed = new java.util.ArrayList<>(), unknown = new java.util.ArrayList<>();
            for (Object id : (Iterable<?>) query.get("cursors")) (cursors.remove(((Number) id).longValue()) ? killed : unknown).add(id);
            reply.append("cursorsKilled", killed).append("cursorsNotFound", unknown).append("ok", 1.0);
            return reply;
        }
    }

    private MongoServerError elsewhere(String asked) {
        return new MongoServerError(13, "Unauthorized", "not authorized on " + asked + ": this connection is bound to database " + name);
    }

    /** Runs r when its turn comes. */
    void submit(Runnable r) {
        synchronized (turns) {
            turns.add(r);
            if (active) return;
            active = true;
        }
        workers.execute(this::work);
    }

    private void work() {
        for (;;) {
            Runnable r;
            synchronized (turns) {
                if ((r = turns.poll()) == null) {
                    active = false;
                    return;
                }
            }
            try { r.run(); } catch (Throwable t) { say("a turn failed: " + t); }
        }
    }

    /** This store's part of what all open ones may take. */
    private static int part(int of, int most) {
        synchronized (opened) { return Math.max(1, Math.min(most, of / Math.max(1, opened.size()))); }
    }

    /** How much each open store's indexes may keep in memory (UniqueIndex). The property is for tests, which have fewer documents. */
    private static long recentBytes() { return Long.getLong("simbdp.recentBytes", part(RECENT_MB, MAX_RECENT_MB) * 1024L * 1024); }

    /** An open store takes 2 MB and more, and 1,000 tenants may have one each: when there are too many, those unused for longest are closed. */
    private static void makeRoom() {
        record Used(Database database, long at) { }
        List<Used> old;
        synchronized (opened) {
            if (opened.size() <= MAX_OPEN) return;
            old = opened.stream().filter(Database::isAtRest).map(d -> new Used(d, d.usedAt)).sorted(Comparator.comparingLong(Used::at)).limit(opened.size() - MAX_OPEN).toList();
        }
        old.forEach(u -> u.database.submit(u.database::rest));
    }

    private boolean isAtRest() {
        synchronized (turns) { return !active && cursors.size() == 0; }
    }

    /** In its turn: closes the store, unless it was used meanwhile. */
    private void rest() {
        synchronized (turns) { if (!turns.isEmpty()) return; }
        if (cursors.size() == 0) discard();
    }

    /** The store in `file`, of our format. */
    static MVStore openStore(Path file, int cacheMb) {
        MVStore s = DurableFile.open(file.toString(), cacheMb);
        DurableFile f = (DurableFile) s.getFileStore();
        int version = s.getMapNames().isEmpty() ? 0 : s.getStoreVersion();
        s.setVersionsToKeep(0); // one command at a time, whose cursors hold documents and no pages
        if (version > BsonMaps.VERSION || version < BsonMaps.OLDEST && !s.getMapNames().isEmpty()) {
            s.closeImmediately();
            if (version > BsonMaps.VERSION) throw new Newer(version);
            throw new IllegalStateException("its format is " + version + ", this program's is " + BsonMaps.VERSION);
        }
        if (f.isTheirs()) f.adopt();
        if (s.getStoreVersion() != BsonMaps.VERSION) {
            s.setStoreVersion(BsonMaps.VERSION);
            s.commit(); // from now on earlier versions refuse it
            s.sync();
        }
        return s;
    }

    /** It is whole, and for another program: nothing is to be restored, nor moved away. */
    private static final class Newer extends RuntimeException {
        Newer(int version) { super("is of a newer version of mysimbdp (" + version + "; this one knows up to " + BsonMaps.VERSION + "), and nothing of it was changed; install that version again"); }
    }

    private void open() {
        if (backend != null && !store.isClosed()) return;
        discard();
        try {
            synchronized (opened) { opened.add(this); }
            boolean isNew = !Files.exists(file);
            store = openStore(file, cacheMb = part(CACHES_MB, MAX_CACHE_MB));
            if (isNew) Databases.sync(file.getParent());
            maps = new BsonMaps(store, recentBytes());
            backend = new Backend(store);
            makeRoom();
        } catch (IOException | RuntimeException | Error e) {
            String of = "state/mongo/" + file.getFileName(); // whatever the home's directory is called where this program sees it
            String why = e instanceof Newer ? of + " " + e.getMessage() : "cannot open " + of + ": " + e.getMessage() + "; restore the file from a backup, or move it away to start empty";
            discard();
            say(why);
            throw storeFailed(e) ? failure(e, why) : new MongoServerError(8, "UnknownError", why);
        }
    }

    private void discard() {
        cursors = new Cursors();
        backend = null;
        maps = null;
        synchronized (opened) { opened.remove(this); }
        if (store == null) return;
        try { store.closeImmediately(); } catch (Throwable t) { /* its file's lock goes with the collector, else with us */ }
        store = null;
    }

    private void say(String what) {
        long now = System.nanoTime();
        if (saidAt != 0 && now - saidAt < 1_000_000_000) return;
        saidAt = now;
        System.err.println("embedded MongoDB: database " + name + ": " + what);
    }

    /** Results are returned in batches, even if the client did not ask for that. */
    private static void bound(Document query, String command) {
        if (command.equals("find") && !isBatch(query.get("batchSize"))) query.put("batchSize", BATCH);
    }

    private static boolean isBatch(Object size) { return size instanceof Number n && n.longValue() > 0 && n.longValue() < MANY; }

    /** How many bytes of documents a batch has: where the client says how many documents, as many as a reply may have. */
    private static int bytesOf(Document query) { return isBatch(query.get("batchSize")) ? MAX_BATCH_BYTES : BATCH_BYTES; }

    /** Does a command of `user`, in its turn; makes it durable, and returns the reply. Never throws. */
    Document command(Channel channel, Users.User user, String database, String command, Document query) {
        String lower = CommandPolicy.lower(command);
        Worker w = Worker.current();
        Document reply;
        usedAt = System.nanoTime();
        tidy = false;
        w.begin(user, 0);
        if (lower.equals("aggregate") && CommandPolicy.writes(query.get("pipeline"))) w.rewrite();
        try {
            CommandPolicy.command(command, query, user.isPlatform());
            if (!database.equals(name) && !lower.equals("renamecollection")) throw elsewhere(database);
            open();
            if (user.maxBytes() >= 0 && size() > user.maxBytes() && CommandPolicy.adds(command, query))
                throw new MongoServerError(12501, "QuotaExceeded", "database " + name + " holds " + size() + " bytes; max_database_bytes is "
                        + user.maxBytes() + ": delete something first, then try again");
            if (CommandPolicy.adds(command, query) && file.getParent().toFile().getUsableSpace() < SPARE_BYTES)
                throw new MongoServerError(NO_SPACE, "OutOfDiskSpace", "the disk under " + file.getParent() + " is full: less than " + (SPARE_BYTES >> 20) + " MiB are left");
            try {
                reply = lower.equals("dropdatabase") ? new Document("dropped", name).append("ok", 1.0) : backend.shortcut(lower, query); /* giveBack removes all of it */
                bound(query, lower);
                if (reply == null) reply = backend.handleCommand(channel, database, command, query);
                if (BsonMaps.memory(reply) > 2L * MAX_REPLY) throw new MongoServerError(10334, "BSONObjectTooLarge", "the reply is too large; ask for less, or set a batchSize");
            } catch (MongoServerException e) {
                reply = error(e);
            }
            w.settle();
            if (!CommandPolicy.READS.contains(lower)) { // also after an error: an unordered insert may have stored a part
                maps.settle();
                if (store.hasUnsavedChanges() || lower.equals("dropdatabase")) {
                    store.commit();
                    if (maps.isFull()) merge();
                    store.sync();
                    giveBack(lower);
                }
            }
        } catch (MongoServerException e) {
            reply = error(e);
            settled(w);
        } catch (Throwable t) {
            settled(w);
            String why = w.ended() != null ? w.ended() : t instanceof Worker.Ended ? t.getMessage() : t instanceof OutOfMemoryError ? "it took more memory than there is"
                    : t instanceof StackOverflowError ? "it is nested too deep" : "" + t;
            say("a command '" + command + "' of " + user.name() + " was ended: " + why);
            discard();
            reply = storeFailed(t) ? error(failure(t, "the store of database " + name + " failed and is opened anew, as the last command left it: " + why))
                    : w.ended() != null && why.contains(" s") ? error(new MongoServerError(50, "MaxTimeMSExpired", "the command was ended: " + why))
                    : error(new MongoServerError(146, "ExceededMemoryLimit", "the command was ended: " + why));
        }
        w.forget();
        usedAt = System.nanoTime();
        return reply;
    }

    /** Errors that are neither the command's fault nor its bounds': what the file system did, or what an earlier failure left. */
    private static boolean storeFailed(Throwable t) {
        for (; t != null; t = t.getCause()) if (t instanceof MVStoreException || t instanceof IOException) return true;
        return false;
    }

    private static boolean noSpace(Throwable t) {
        for (; t != null; t = t.getCause()) if (("" + t.getMessage()).contains("No space left") || ("" + t.getMessage()).contains("quota exceeded")) return true;
        return false;
    }

    private static MongoServerError failure(Throwable t, String why) {
        return noSpace(t) ? new MongoServerError(NO_SPACE, "OutOfDiskSpace", why) : new MongoServerError(INTERRUPTED, "InterruptedAtShutdown", why);
    }

    private void merge() {
        maps.merge(() -> {
            store.commit();
            store.sync(); // before the room that this made free is used again
        });
    }

    private long size() { return store.getFileStore().size(); }

    /** Returns what was deleted to the file system: the file of a dropped database is removed, a large file shrinks. */
    private void giveBack(String command) throws IOException {
        if (command.equals("dropdatabase")) {
            discard();
            Files.deleteIfExists(file);
            Databases.sync(file.getParent());
        } else if ((command.equals("drop") || command.equals("delete")) && size() > COMPACT_BYTES && store.getFileStore().getChunksFillRate() < 50) shrink();
    }

    static void settled(Worker w) {
        try { w.settle(); } catch (Worker.Ended e) { /* that is why we are here */ }
    }

    static Document error(MongoServerException e) {
        Document d = new Document("ok", 0.0).append("errmsg", e.getMessageWithoutErrorCode());
        if (e instanceof MongoServerError m) {
            d.put("code", m.getCode());
            d.putIfNotNull("codeName", m.getCodeName());
        }
        return d;
    }

    /** Once a second: gives back the memory of what is not used. */
    void tick() {
        cursors.expire();
        if (store == null) return;
        if (cacheMb != part(CACHES_MB, MAX_CACHE_MB)) submit(this::resize);
        if (!tidy && isIdle(TIDY_NS)) submit(this::tidy);
        if (cursors.size() == 0 && isIdle(IDLE_NS)) submit(() -> { if (cursors.size() == 0 && isIdle(IDLE_NS)) discard(); });
    }

    private void resize() {
        if (store != null && !store.isClosed()) store.setCacheSize(cacheMb = part(CACHES_MB, MAX_CACHE_MB));
    }

    private boolean isIdle(long ns) { return System.nanoTime() - usedAt > ns; }

    /** After a load: merges and shrinks the file, so that whoever opens it next has nothing to read again. */
    private void tidy() {
        if (tidy || backend == null || store.isClosed() || !isIdle(TIDY_NS)) return;
        tidy = true;
        try {
            maps.settle();
            if (maps.isBehind()) merge();
            if (size() > COMPACT_BYTES && store.getFillRate() < FULL) shrink();
        } catch (Throwable t) {
            say("tidying up failed: " + t);
            discard();
        }
    }

    private void shrink() { ((DurableFile) store.getFileStore()).shrink(COMPACT_MS); }

    int cursors() { return cursors.size(); }
    void dropCursors() { submit(this::discard); }

    void closed(Channel channel) {
        submit(() -> { if (backend != null) backend.handleClose(channel); });
    }
}
