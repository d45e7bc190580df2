import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.KeyValue;
import de.bwaldvogel.mongo.backend.Missing;
import de.bwaldvogel.mongo.backend.h2.H2Database;
import de.bwaldvogel.mongo.bson.BinData;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.wire.bson.BsonDecoder;
import de.bwaldvogel.mongo.wire.bson.BsonEncoder;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.h2.mvstore.MVMap;
import org.h2.mvstore.MVStore;
import org.h2.mvstore.WriteBuffer;
import org.h2.mvstore.type.BasicDataType;

/**
 * The maps of mongo-java-server's H2 store with keys and values in BSON (bsonspec.org).
 *
 * H2Database opens its maps by name without saying of what type they are, and MVStore gives a map that is open already as it
 * is; so they are opened here, with types, just before it asks for them. Java serialisation, the default, took most of the
 * time of an insert: a key was serialised at every step of a search, and a class description stored with every document.
 */
final class BsonMaps {
    /** The store version of data files; 0 was Java serialisation. A change of compare() or of what is written needs another. */
    static final int VERSION = 1;

    private final MVStore store;

    BsonMaps(MVStore store) { this.store = store; }

    MongoDatabase database(String name, CursorRegistry cursors) { return new Database(name, cursors); }

    /** Copies the map `name` of one store into another. */
    static void copy(MVStore from, MVStore to, String name) {
        if (name.startsWith("databases.")) copy(from, to, name, new MVMap.Builder<Object, Document>().keyType(new Values()).valueType(new Documents()));
        else if (name.contains("._index_")) copy(from, to, name, new MVMap.Builder<KeyValue, Object>().keyType(new Keys()).valueType(new Values()));
        else copy(from, to, name, new MVMap.Builder<Object, Object>());
    }

    private static <K, V> void copy(MVStore from, MVStore to, String name, MVMap.Builder<K, V> types) {
        MVMap<K, V> source = from.openMap(name, types), target = to.openMap(name, types);
        source.forEach(target::put);
    }

    /** What is opened with a store costs memory and time for as long as that is open: collections and unique indexes take maps. */
    private static final int MAX_MAPS = 10_000, MAX_INDEXES = 64, MAX_NAME = 256;

    private void admit(String map) {
        if (!store.hasMap(map) && store.getMapNames().size() >= MAX_MAPS)
            throw new MongoServerError(12501, "QuotaExceeded", "a database has room for about " + MAX_MAPS / 3 + " collections; drop some");
    }

    /** H2Database's constructor calls these methods; what encloses the class is there by then, its own fields are not. */
    private final class Database extends H2Database {
        private final boolean isOpen;
        Database(String name, CursorRegistry cursors) { super(name, store, cursors); isOpen = true; }

        private void admitIndex(String collection, String index) {
            MongoCollection<Object> c = isOpen ? resolveCollection(collection, false) : null;
            if (c != null && c.getNumIndexes() >= MAX_INDEXES)
                throw new MongoServerError(67, "CannotCreateIndex", "a collection has " + MAX_INDEXES + " indexes at most");
            if (isOpen && index.length() > MAX_NAME) throw new MongoServerError(67, "CannotCreateIndex", "an index's name of " + index.length() + " characters");
        }

        @Override protected Index<Object> openOrCreateSecondaryIndex(String collection, String index, List<IndexKey> keys, boolean sparse) {
            admitIndex(collection, index);
            return super.openOrCreateSecondaryIndex(collection, index, keys, sparse);
        }

        @Override protected Index<Object> openOrCreateUniqueIndex(String collection, String index, List<IndexKey> keys, boolean sparse) {
            admitIndex(collection, index);
            admit(getFullCollectionNamespace(collection) + "._index_" + index);
            store.openMap(getFullCollectionNamespace(collection) + "._index_" + index,
                    new MVMap.Builder<KeyValue, Object>().keyType(new Keys()).valueType(new Values()));
            return super.openOrCreateUniqueIndex(collection, index, keys, sparse);
        }

        @Override protected MongoCollection<Object> openOrCreateCollection(String collection, CollectionOptions options) {
            admit("databases." + getFullCollectionNamespace(collection));
            MVMap<Object, Document> data = store.openMap("databases." + getFullCollectionNamespace(collection),
                    new MVMap.Builder<Object, Document>().keyType(new Values()).valueType(new Documents()));
            return new Rows(this, collection, options, data, store.openMap("meta." + getFullCollectionNamespace(collection)), cursorRegistry);
        }
    }

    /** A type stored as a document. */
    private abstract static class Type<T> extends BasicDataType<T> {
        abstract Map<String, ?> wrap(T v);
        abstract T unwrap(Document d);

        @Override public void write(WriteBuffer out, T v) {
            ByteBuf b = encode(wrap(v));
            out.put(b.array(), 0, b.writerIndex());
        }

        @Override public T read(ByteBuffer in) {
            Worker.check();
            ByteBuf b = Unpooled.wrappedBuffer(in);
            Document d = BsonDecoder.decodeBson(b);
            Worker.read(b.readerIndex());
            in.position(in.position() + b.readerIndex());
            return unwrap(d);
        }
    }

    /** Anything that may be a document's field, or be missing. */
    private static final class Values extends Type<Object> {
        @Override Map<String, ?> wrap(Object v) { return fields(Collections.singletonList(v)); }
        @Override Object unwrap(Document d) { return valuesOf(d).get(0); }
        @Override public int compare(Object a, Object b) { return compareValues(a, b); }
        @Override public int getMemory(Object v) { return memory(v); }
        @Override public Object[] createStorage(int n) { return new Object[n]; }
    }

    private static final class Documents extends Type<Document> {
        @Override Map<String, ?> wrap(Document d) { return d; }
        @Override Document unwrap(Document d) { return d; }
        @Override public int getMemory(Document d) { return memory(d); }
        @Override public Document[] createStorage(int n) { return new Document[n]; }
    }

    /** The values of an index's fields. */
    private static final class Keys extends Type<KeyValue> {
        @Override Map<String, ?> wrap(KeyValue k) { return fields(k); }
        @Override KeyValue unwrap(Document d) { return new KeyValue(valuesOf(d)); }
        @Override public int compare(KeyValue a, KeyValue b) {
            int c = Integer.compare(a.size(), b.size());
            for (int i = 0; c == 0 && i < a.size(); i++) c = compareValues(a.get(i), b.get(i));
            return c;
        }
        @Override public int getMemory(KeyValue k) {
            int n = 64;
            for (Object v : k) n += memory(v);
            return n;
        }
        @Override public KeyValue[] createStorage(int n) { return new KeyValue[n]; }
    }

    private static final ThreadLocal<ByteBuf> buffer = ThreadLocal.withInitial(() -> Unpooled.buffer(1024));

    /** Valid until this thread's next. */
    private static ByteBuf encode(Map<String, ?> d) {
        ByteBuf b = buffer.get().clear();
        BsonEncoder.encodeDocument(d, b);
        return b;
    }

    /** Values under their number; "-" marks one that is missing, which is not null. */
    private static Map<String, Object> fields(Iterable<?> values) {
        Map<String, Object> d = new LinkedHashMap<>();
        int i = 0;
        for (Object v : values)
            if (v instanceof Missing) d.put("-" + i++, null);
            else d.put("" + i++, v);
        return d;
    }

    private static List<Object> valuesOf(Document d) {
        List<Object> values = new ArrayList<>(d.size());
        for (Map.Entry<String, Object> e : d.entrySet())
            values.add(e.getKey().startsWith("-") ? Missing.getInstance() : e.getValue());
        return values;
    }

    /** Any total order will do that tells what differs. */
    @SuppressWarnings("unchecked")
    private static int compareValues(Object a, Object b) {
        Worker.check();
        if (a == b) return 0;
        String kind = kindOf(a), other = kindOf(b);
        if (!kind.equals(other)) return kind.compareTo(other);
        if (a instanceof Comparable) return ((Comparable<Object>) a).compareTo(b);
        ByteBuf e = encode(fields(List.of(a)));
        byte[] x = Arrays.copyOf(e.array(), e.writerIndex());
        e = encode(fields(List.of(b)));
        return Arrays.compareUnsigned(x, 0, x.length, e.array(), 0, e.writerIndex());
    }

    private static String kindOf(Object v) {
        return v == null ? "" : v instanceof Collection ? "list" : v instanceof Map ? "map" : v.getClass().getName();
    }

    /** What a message may nest, and an update may add to it. */
    private static final int MAX_DEPTH = 2 * Guard.MAX_DEPTH + 10, MAP_BYTES = 72;

    /** About how many bytes of heap; pages are split, and the cache is bounded, by it. It is asked for before a document is put into a
     *  map, and refuses there what is nested so deep that a commit would fail. */
    static int memory(Object v) {
        Worker.check();
        return memory(v, 0);
    }

    private static int memory(Object v, int depth) {
        int n = 24;
        if (depth > MAX_DEPTH) throw new Worker.Ended("it nests documents deeper than " + MAX_DEPTH);
        if (v instanceof String s) n += 24 + s.length();
        else if (v instanceof BinData d) n += 24 + d.getData().length;
        else if (v instanceof Map<?, ?> m) {
            n += MAP_BYTES;
            for (Object f : m.values()) n += 48 + memory(f, depth + 1);
        }
        else if (v instanceof Collection<?> c) for (Object f : c) n += 8 + memory(f, depth + 1);
        return n;
    }
}
