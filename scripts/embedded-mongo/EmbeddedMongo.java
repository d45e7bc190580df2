import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.wire.message.MongoQuery;
import io.netty.channel.Channel;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.h2.mvstore.DataUtils;
import org.h2.mvstore.MVStore;
import org.h2.mvstore.MVStoreException;

/**
 * The embedded MongoDB of a home: mongo-java-server on its H2 file store, made durable and given access control.
 *
 *   EmbeddedMongo --home HOME --port PORT --data FILE --access FILE
 *
 * Durable: as it comes, MVStore commits from a background thread about once a second, so kill -9 loses documents that
 * were acknowledged. Here autocommit is off, commands are serialised, and every command that may write ends with
 * commit() + sync() before its reply leaves. The write buffer has no limit either: above it MVStore commits in the middle of
 * a command, and a kill then leaves a document without its entry in the index of _id.
 *
 * Stored as BSON (BsonMaps): as it comes, keys and documents are Java-serialised, and keys at every comparison.
 *
 * A client that greets or pings is answered while another's command runs: slow is not down.
 *
 * Access: mongo-java-server has no users. A connection is bound by the secret in its application name (the appName of
 * the URL, which drivers send with their first command) to the one database that the access file names for it; "*" is
 * every database. The access file has a line "SECRET DATABASE" for each; it is read again when a secret is unknown. A
 * connection without a known secret may only say hello and ping.
 *
 * With SIMBDP_SUPERVISED in the environment it also ends when its stdin closes.
 *
 * Exit codes: 0 stopped by SIGTERM; 2 usage; 3 the data file cannot be opened; 98 the port is in use.
 */
public final class EmbeddedMongo {
    static final Set<String> GREETINGS = Set.of("ismaster", "hello", "ping", "buildinfo", "whatsmyuri", "endsessions",
            "getlasterror", "connectionstatus");
    static final Set<String> READS = Set.of("ismaster", "hello", "ping", "buildinfo", "whatsmyuri", "endsessions",
            "getlasterror", "connectionstatus", "find", "count", "distinct", "getmore", "killcursors", "listcollections",
            "listindexes", "listdatabases", "dbstats", "collstats", "serverstatus", "hostinfo");

    static final class Access {
        private final Path file;
        private volatile Map<String, String> databases = Map.of();
        Access(Path file) throws IOException { this.file = file; load(); }
        private void load() throws IOException {
            Map<String, String> next = new HashMap<>();
            for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
                String[] w = line.trim().split("\\s+");
                if (w.length == 2 && w[0].length() >= 16) next.put(w[0], w[1]);
            }
            databases = next;
        }
        String databaseOf(String secret) {
            String db = databases.get(secret);
            if (db == null) {
                try { load(); } catch (IOException e) { return null; }
                db = databases.get(secret);
            }
            return db;
        }
    }

    static final class Backend extends H2Backend {
        private final MVStore store;
        private final Access access;
        private final Map<Channel, String> bound = new ConcurrentHashMap<>();
        Backend(MVStore store, Access access) { super(store); this.store = store; this.access = access; }

        @Override protected MongoDatabase openOrCreateDatabase(String name) {
            return new BsonMaps(getMvStore()).database(name, getCursorRegistry());
        }

        @Override public Document handleCommand(Channel channel, String database, String command, Document query) {
            String name = command.toLowerCase(java.util.Locale.ROOT);
            if (query.get("client") instanceof Document client && client.get("application") instanceof Document app
                    && app.get("name") instanceof String secret && !bound.containsKey(channel)) {
                String db = access.databaseOf(secret);
                if (db != null) bound.put(channel, db);
            }
            check(channel, database, name, query);
            // On another database than admin, even a ping makes that.
            return GREETINGS.contains(name) && database.equals("admin") ? super.handleCommand(channel, database, command, query)
                    : handleInTurn(channel, database, command, name, query);
        }

        private synchronized Document handleInTurn(Channel channel, String database, String command, String name, Document query) {
            if (READS.contains(name)) return super.handleCommand(channel, database, command, query);
            try {
                return super.handleCommand(channel, database, command, query);
            } finally { // also after an error: an unordered insert may have stored a part
                store.commit();
                store.sync();
            }
        }

        @Override public synchronized QueryResult handleQuery(MongoQuery query) {
            check(query.getChannel(), query.getDatabaseName(), "find", query.getQuery());
            return super.handleQuery(query);
        }

        @Override public synchronized void handleClose(Channel channel) {
            bound.remove(channel);
            super.handleClose(channel);
        }

        private void check(Channel channel, String database, String name, Document query) {
            if (GREETINGS.contains(name)) return;
            String db = bound.get(channel);
            if ("*".equals(db)) return;
            if (db == null) throw new MongoServerError(13, "Unauthorized",
                    "this connection shows no valid secret in its application name (appName in the URL)");
            if (!db.equals(database)) throw new MongoServerError(13, "Unauthorized",
                    "not authorized on " + database + ": this connection is bound to database " + db);
            if (name.equals("aggregate") && query.get("pipeline") instanceof Iterable<?> stages)
                for (Object stage : stages)
                    if (stage instanceof Document d && (leaves(d.get("$out"), db) || leaves(d.get("$merge"), db)))
                        throw new MongoServerError(13, "Unauthorized", "not authorized to write outside database " + db);
        }

        private static boolean leaves(Object target, String db) {
            if (!(target instanceof Document d)) return false;
            if (d.get("db") != null && !db.equals(d.get("db"))) return true;
            return d.get("into") instanceof Document into && into.get("db") != null && !db.equals(into.get("db"));
        }
    }

    /** A predecessor that is about to end may still hold the file's lock. */
    private static MVStore open(String file) throws InterruptedException {
        for (int left = 40;; left--) {
            try {
                MVStore store = new MVStore.Builder().fileName(file).autoCommitDisabled().autoCommitBufferSize(0).open();
                if (store.getMapNames().isEmpty()) {
                    store.setStoreVersion(BsonMaps.VERSION);
                } else if (store.getStoreVersion() != BsonMaps.VERSION) {
                    int version = store.getStoreVersion();
                    store.closeImmediately();
                    throw new IllegalStateException("its format is " + version + ", this program's is " + BsonMaps.VERSION);
                }
                return store;
            } catch (MVStoreException e) {
                if (e.getErrorCode() != DataUtils.ERROR_FILE_LOCKED || left == 0) throw e;
                Thread.sleep(250);
            }
        }
    }

    /** Whoever started us holds the other end of stdin; when that closes, they are gone. */
    private static void endWithStdin() {
        Thread t = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException e) { /* the same */ }
            System.exit(0);
        });
        t.setDaemon(true);
        t.start();
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> opt = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) opt.put(args[i], args[i + 1]);
        if (!opt.keySet().equals(Set.of("--home", "--port", "--data", "--access"))) {
            System.err.println("usage: EmbeddedMongo --home HOME --port PORT --data FILE --access FILE");
            System.exit(2);
        }
        MVStore store = null;
        Access access = null;
        try {
            access = new Access(Path.of(opt.get("--access")));
            store = open(opt.get("--data"));
        } catch (Exception e) {
            System.err.println("embedded MongoDB: cannot open " + opt.get("--data") + ": " + e.getMessage()
                    + "; restore the file from a backup, or move it away to start empty");
            System.exit(3);
        }
        // A connection waits for the others on its thread, so there are more threads than connections are likely to be busy.
        if (System.getProperty("io.netty.eventLoopThreads") == null) System.setProperty("io.netty.eventLoopThreads", "32");
        MongoServer server = new MongoServer(new Backend(store, access));
        try {
            server.bind("127.0.0.1", Integer.parseInt(opt.get("--port")));
        } catch (Exception e) {
            System.err.println("embedded MongoDB: cannot listen on 127.0.0.1:" + opt.get("--port") + ": " + e.getMessage());
            store.closeImmediately();
            System.exit(98);
        }
        if (System.getenv("SIMBDP_SUPERVISED") != null) endWithStdin();
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        System.err.println("embedded MongoDB: ready on 127.0.0.1:" + opt.get("--port"));
    }
}
