import de.bwaldvogel.mongo.exception.MongoServerError;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.SynchronousQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.h2.mvstore.MVStore;

/** The databases in a directory, each in a file NAME.mv; and the migration from the one file that earlier versions had. */
final class Databases {
    private static final Pattern NAME = Pattern.compile("[^/\\\\. \"$*<>:|?\\x00]{1,63}"); // MongoDB's
    private static final String SUFFIX = ".mv", ONE_FILE = "all.old", PART = ".part";

    private final Path dir;
    private final FileLock lock;
    private final Map<String, Database> databases = new ConcurrentHashMap<>();
    private final ThreadPoolExecutor workers =
            new ThreadPoolExecutor(0, Integer.MAX_VALUE, 10, TimeUnit.SECONDS, new SynchronousQueue<>(), Worker::new);

    /** Waits for a predecessor that is about to end and still holds the file. */
    Databases(Path dir) throws IOException, InterruptedException {
        this.dir = dir;
        FileChannel c = FileChannel.open(dir.resolve("lock"), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
        FileLock l = null;
        for (int left = 40; (l = c.tryLock()) == null && left > 0; left--) Thread.sleep(250);
        if (l == null) throw new IOException("another server uses it");
        lock = l;
        split();
    }

    Database of(String name) {
        if (!NAME.matcher(name).matches()) throw new MongoServerError(73, "InvalidNamespace", "Invalid database name: '" + name + "'");
        return databases.computeIfAbsent(name, n -> new Database(n, dir.resolve(n + SUFFIX), workers));
    }

    Set<String> names() {
        try (Stream<Path> files = Files.list(dir)) {
            return files.map(p -> p.getFileName().toString()).filter(n -> n.endsWith(SUFFIX)).map(n -> n.substring(0, n.length() - SUFFIX.length()))
                    .collect(Collectors.toCollection(TreeSet::new));
        } catch (IOException e) {
            throw new MongoServerError(8, "UnknownError", "cannot read " + dir + ": " + e.getMessage());
        }
    }

    /** Names are on the disk when that has returned. */
    static void sync(Path directory) throws IOException {
        try (FileChannel d = FileChannel.open(directory)) { d.force(true); }
    }

    boolean exists(String name) { return Files.exists(dir.resolve(name + SUFFIX)); }
    void execute(Runnable r) { workers.execute(r); }
    void tick() { databases.values().forEach(Database::tick); }

    /** To be called when memory is scarce and no command is to blame: the database with most cursors loses them. */
    void relieve() {
        databases.values().stream().max(Comparator.comparingInt(Database::cursors)).filter(d -> d.cursors() > 0).ifPresent(Database::dropCursors);
    }

    private static String ownerOf(String map) {
        String rest = map.startsWith("databases.") ? map.substring(10) : map.startsWith("meta.") ? map.substring(5) : map;
        return rest.substring(0, rest.indexOf('.'));
    }

    /** Migrates. Until everything is copied, the one file counts; a kill in between starts over. */
    private void split() throws IOException {
        Path all = dir.resolve(ONE_FILE);
        if (!Files.exists(all)) return;
        MVStore from = Database.openStore(all, 16);
        Map<String, List<String>> maps = from.getMapNames().stream().filter(n -> n.indexOf('.') > 0).collect(Collectors.groupingBy(Databases::ownerOf));
        for (Map.Entry<String, List<String>> e : maps.entrySet()) {
            Path part = dir.resolve(e.getKey() + PART);
            Files.deleteIfExists(part);
            MVStore to = Database.openStore(part, 16);
            for (String name : e.getValue()) BsonMaps.copy(from, to, name);
            to.commit();
            to.sync();
            to.close();
        }
        from.close();
        for (String name : maps.keySet())
            Files.move(dir.resolve(name + PART), dir.resolve(name + SUFFIX), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
        sync(dir);
        Files.delete(all);
    }
}
