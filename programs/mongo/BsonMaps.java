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
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.h2.compress.CompressLZF;
import org.h2.mvstore.AppendMap;
import org.h2.mvstore.DataUtils;
import org.h2.mvstore.MVMap;
import org.h2.mvstore.MVStore;
import org.h2.mvstore.WriteBuffer;
import org.h2.mvstore.type.BasicDataType;

/**
 * The maps of mongo-java-server's H2 store, with keys and values in BSON (bsonspec.org).
 *
 * H2Database opens its maps by name and does not say of what type they are; MVStore returns a map that is open already as it is. So the maps are
 * opened here, with types, just before H2Database asks for them. Java serialisation, the default, took most of the time of an insert: a key was
 * serialised at every step of a search, and a class description was stored with every document.
 */
final class BsonMaps {
    /**
     * The store version of data files. 0 was Java serialisation. 1 had every document under its _id; such collections stay as they are. 2 had MVStore's
     * own headers (DurableFile). A change of compare(), or of what is written, needs another version.
     */
    static final int VERSION = 3, OLDEST = 1;

    private static final long MAX_LATE = 24L << 20;

    private final MVStore store;
    private final long maxRecent;
    private final Set<StreamedCollection> touched = new LinkedHashSet<>(), behind = new LinkedHashSet<>();
    private long recent, late;

    /** maxRecent: how many bytes unique indexes may keep in memory before they are merged into the store. */
    BsonMaps(MVStore store, long maxRecent) {
        this.store = store;
        this.maxRecent = maxRecent;
    }

    MongoDatabase database(String name, CursorRegistry cursors) { return new Database(name, cursors); }

    void touch(StreamedCollection r) { touched.add(r); }

    void grow(StreamedCollection r, int bytes) {
        recent += bytes;
        behind.add(r);
    }

    /** To be called before a commit: puts into the store what collections keep beside it and what no document says. */
    void settle() {
        touched.forEach(StreamedCollection::settle);
        touched.clear();
    }

    /** n bytes of documents were added that would have to be read again at the next start. */
    void come(int n) { late += n; }

    boolean isFull() { return recent > maxRecent || late > MAX_LATE; }

    /** Merges in commits of its own, so that what is written lies together, and its room is free again after the next merge. */
    void merge(Runnable written) {
        for (StreamedCollection r : behind) r.merge(written);
        written.run();
        behind.clear();
        late = 0;
    }

    boolean isBehind() { return recent > 0; }

    /** Copies the map `name` of one store into another. */
    static void copy(MVStore from, MVStore to, String name) {
        if (name.startsWith("databases.")) copy(from, to, name, rows());
        else if (name.contains(UNIQUE)) copy(from, to, name, places());
        else if (name.contains(INDEX)) copy(from, to, name, new MVMap.Builder<KeyValue, Object>().keyType(new Keys()).valueType(new Values()));
        else copy(from, to, name, new MVMap.Builder<Object, Object>());
    }

    private static <M extends MVMap<K, V>, K, V> void copy(MVStore from, MVStore to, String name, MVMap.MapBuilder<M, K, V> types) {
        MVMap<K, V> source = from.openMap(name, types), target = to.openMap(name, types);
        source.forEach(target::put);
    }

    /** Prefixes of the names of UniqueIndex's maps, and of the library's own. */
    private static final String UNIQUE = "._unique_", INDEX = "._index_";

    private static AppendMap.Builder<Object, byte[]> rows() { return new AppendMap.Builder<Object, byte[]>().keyType(new Values()).valueType(new Bytes()); }
    private static AppendMap.Builder<byte[], Long> places() { return new AppendMap.Builder<byte[], Long>().keyType(new Ordered()).valueType(new Places()); }

    /**
     * Bounds how many maps a store has: each one costs memory and time for as long as the store is open. Collections and unique indexes take maps.
     */
    private static final int MAX_MAPS = 10_000, MAX_INDEXES = 64, MAX_NAME = 256;

    private void admit(String map) {
        if (!store.hasMap(map) && store.getMapNames().size() >= MAX_MAPS)
            throw new MongoServerError(12501, "QuotaExceeded", "a database has room for about " + MAX_MAPS / 3 + " collections; drop some");
    }

    /** H2Database's constructor calls these methods. At that time the enclosing object is there, but this object's own fields are not. */
    private final class Database extends H2Database {
        private final boolean isOpen;
        Database(String name, CursorRegistry cursors) { super(name, store, cursors); isOpen = true; }

        private void admitIndex(String collection, String index) {
            MongoCollection<Object> c = isOpen ? resolveCollection(collection, false) : null;
            if (c != null && c.getNumIndexes() >= MAX_INDEXES)
                throw new MongoServerError(67, "CannotCreateIndex", "a collection has " + MAX_INDEXES + " indexes at most");
            if (isOpen && index.length() > MAX_NAME) throw new MongoServerError(67, "CannotCreateIndex", "an index's name of " + index.length() + " characters");
        }

        /** The library would keep both under one name, and find only one of them when they are to go. */
        @Override protected void addIndex(Document d) {
            if (isOpen && d.get("ns") instanceof String ns && ns.startsWith(getDatabaseName() + ".") && d.get("key") instanceof Document key) {
                MongoCollection<Object> c = resolveCollection(ns.substring(getDatabaseName().length() + 1), false);
                List<String> fields = List.copyOf(key.keySet());
                for (Index<Object> i : c == null ? List.<Index<Object>>of() : c.getIndexes())
                    if (i.getName().equals(d.get("name")) && !i.getKeys().stream().map(IndexKey::getKey).toList().equals(fields))
                        throw new MongoServerError(86, "IndexKeySpecsConflict", "an index of this name has another key");
            }
            super.addIndex(d);
        }

        @Override protected Index<Object> openOrCreateSecondaryIndex(String collection, String index, List<IndexKey> keys, boolean sparse) {
            admitIndex(collection, index);
            return super.openOrCreateSecondaryIndex(collection, index, keys, sparse);
        }

        @Override protected Index<Object> openOrCreateUniqueIndex(String collection, String index, List<IndexKey> keys, boolean sparse) {
            admitIndex(collection, index);
            String old = getFullCollectionNamespace(collection) + INDEX + index, name = getFullCollectionNamespace(collection) + UNIQUE + index;
            StreamedCollection rows = (StreamedCollection) resolveCollection(collection, true);
            if (rows.isInOrder()) {
                admit(name);
                UniqueIndex u = new UniqueIndex(rows, store.openMap(name, places()), index, keys, sparse);
                if (!u.isEmpty()) rows.catchUp(u);
                return u;
            }
            admit(old);
            store.openMap(old, new MVMap.Builder<KeyValue, Object>().keyType(new Keys()).valueType(new Values()));
            return super.openOrCreateUniqueIndex(collection, index, keys, sparse);
        }

        @Override protected void dropIndex(MongoCollection<Object> collection, String index) {
            for (Index<Object> i : collection.getIndexes()) if (i instanceof UniqueIndex u && index.equals(i.getName())) u.forget();
            super.dropIndex(collection, index);
            store.removeMap(getFullCollectionNamespace(collection.getCollectionName()) + UNIQUE + index);
        }

        @Override public void moveCollection(MongoDatabase from, MongoCollection<?> collection, String to) {
            String old = getFullCollectionNamespace(collection.getCollectionName()), name = getFullCollectionNamespace(to);
            super.moveCollection(from, collection, to);
            for (String kind : List.of("databases.", "meta.")) { // the library makes new ones
                store.removeMap(kind + name);
                store.renameMap(store.openMap(kind + old), kind + name);
            }
            for (Index<?> i : collection.getIndexes())
                for (String kind : List.of(UNIQUE, INDEX))
                    if (store.hasMap(old + kind + i.getName())) store.renameMap(store.openMap(old + kind + i.getName()), name + kind + i.getName());
        }

        @Override protected MongoCollection<Object> openOrCreateCollection(String collection, CollectionOptions options) {
            admit("databases." + getFullCollectionNamespace(collection));
            return new StreamedCollection(BsonMaps.this, this, collection, options, store.openMap("databases." + getFullCollectionNamespace(collection), rows()),
                    store.openMap("meta." + getFullCollectionNamespace(collection)), cursorRegistry);
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

    /** Any value that a document's field may have, and "missing". */
    private static final class Values extends Type<Object> {
        @Override Map<String, ?> wrap(Object v) { return fields(Collections.singletonList(v)); }
        @Override Object unwrap(Document d) { return valuesOf(d).get(0); }
        @Override public int compare(Object a, Object b) { return compareValues(a, b); }
        @Override public int getMemory(Object v) { return memory(v); }
        @Override public Object[] createStorage(int n) { return new Object[n]; }
    }

    /**
     * Documents are kept in memory as the bytes that are stored: when one changes, all documents of its page are written again, and when one is read,
     * usually only that one is decoded. A page has one document after the other, or, where that is smaller: -1, their length, the compressed length,
     * and the bytes compressed by LZF.
     */
    private static final class Bytes extends BasicDataType<byte[]> {
        private static final int COMPRESSED = -1, LITTLE = 256;
        private static final ThreadLocal<Packer> packers = ThreadLocal.withInitial(Packer::new);

        /** What compresses, and its buffers. Those of pages of usual size are used again. */
        private static final class Packer {
            private static final int USUAL = 128 << 10;
            private final CompressLZF lzf = new CompressLZF();
            private final byte[] whole = new byte[USUAL], small = new byte[2 * USUAL + LITTLE];
            byte[] whole(int n) { return n <= USUAL ? whole : new byte[n]; }
            byte[] small(int n) { return n <= USUAL ? small : new byte[2 * n + LITTLE]; }
        }

        @Override public void write(WriteBuffer out, byte[] v) { out.put(v); }
        @Override public byte[] read(ByteBuffer in) { throw new UnsupportedOperationException(); }

        @Override public void write(WriteBuffer out, Object storage, int n) {
            byte[][] all = (byte[][]) storage;
            int length = 0, at = 0;
            for (int i = 0; i < n; i++) length += all[i].length;
            Packer p = packers.get();
            byte[] whole = p.whole(length), small = p.small(length);
            for (int i = 0; i < n; i++) {
                System.arraycopy(all[i], 0, whole, at, all[i].length);
                at += all[i].length;
            }
            int packed = length < LITTLE ? length : p.lzf.compress(whole, 0, length, small, 0);
            if (packed + LITTLE / 8 < length) out.putInt(COMPRESSED).putVarInt(length).putVarInt(packed).put(small, 0, packed);
            else out.put(whole, 0, length);
        }

        @Override public void read(ByteBuffer in, Object storage, int n) {
            Worker.check();
            byte[] all = in.array();
            int start = in.arrayOffset() + in.position(), at = start;
            if (n > 0 && Bson.int32(all, at) == COMPRESSED) {
                in.getInt();
                int length = DataUtils.readVarInt(in), packed = DataUtils.readVarInt(in);
                byte[] whole = packers.get().whole(length);
                packers.get().lzf.expand(all, in.arrayOffset() + in.position(), packed, whole, 0, length);
                in.position(in.position() + packed);
                all = whole;
                start = at = 0;
            }
            for (int i = 0; i < n; i++) {
                cast(storage)[i] = Arrays.copyOfRange(all, at, at + Bson.int32(all, at));
                at += cast(storage)[i].length;
            }
            if (all == in.array()) in.position(in.position() + at - start);
        }

        @Override public int getMemory(byte[] v) { return 24 + v.length; }
        @Override public byte[][] createStorage(int n) { return new byte[n][]; }
    }

    /** Orders keys by their bytes. */
    private static final class Ordered extends BasicDataType<byte[]> {
        @Override public void write(WriteBuffer out, byte[] v) { out.putVarInt(v.length).put(v); }
        @Override public byte[] read(ByteBuffer in) {
            byte[] b = new byte[DataUtils.readVarInt(in)];
            in.get(b);
            return b;
        }
        @Override public int compare(byte[] a, byte[] b) { return Arrays.compareUnsigned(a, b); }
        @Override public int getMemory(byte[] v) { return 24 + v.length; }
        @Override public byte[][] createStorage(int n) { return new byte[n][]; }
    }

    /** Places of documents, in collections that keep them in the order they came. */
    private static final class Places extends BasicDataType<Long> {
        @Override public void write(WriteBuffer out, Long v) { out.putVarLong(v); }
        @Override public Long read(ByteBuffer in) { return DataUtils.readVarLong(in); }
        @Override public int getMemory(Long v) { return 24; }
        @Override public Long[] createStorage(int n) { return new Long[n]; }
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

    static byte[] bytesOf(Map<String, ?> d) {
        ByteBuf b = encode(d);
        return Arrays.copyOf(b.array(), b.writerIndex());
    }

    /** A buffer that is valid until this thread asks for the next. */
    private static ByteBuf encode(Map<String, ?> d) {
        ByteBuf b = buffer.get().clear();
        BsonEncoder.encodeDocument(d, b);
        return b;
    }

    /** Encodes values under their number; "-" marks one that is missing, which is not the same as null. */
    static Map<String, Object> fields(Iterable<?> values) {
        Map<String, Object> d = new LinkedHashMap<>();
        int i = 0;
        for (Object v : values)
            if (v instanceof Missing) d.put("-" + i++, null);
            else d.put("" + i++, v);
        return d;
    }

    static List<Object> valuesOf(Document d) {
        List<Object> values = new ArrayList<>(d.size());
        for (Map.Entry<String, Object> e : d.entrySet())
            values.add(e.getKey().startsWith("-") ? Missing.getInstance() : e.getValue());
        return values;
    }

    /** The order does not matter, as long as it is total and different values compare as different. */
    @SuppressWarnings("unchecked")
    private static int compareValues(Object a, Object b) {
        Worker.check();
        if (a == b) return 0;
        if (a instanceof Long x && b instanceof Long y) return Long.compare(x, y);
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

    /** As deep as a message may nest, and what an update may add to that. */
    private static final int MAX_DEPTH = 2 * MessageCheck.MAX_DEPTH + 10, MAP_BYTES = 72;

    /**
     * About how many bytes of heap a value takes. MVStore splits pages and bounds its cache by that. It is asked for before a document is put into a
     * map, so it also refuses documents that nest so deep that a commit would fail.
     */
    static int memory(Object v) {
        Worker.check();
        return memory(v, 0);
    }

    private static int memory(Object v, int depth) {
        int n = 24;
        if (depth > MAX_DEPTH) throw new Worker.Ended("it nests documents deeper than " + MAX_DEPTH);
        if (v instanceof String s) n += 24 + s.length();
        else if (v instanceof BinData d) n += 24 + d.getData().length;
        else if (v instanceof Stored s) n += s.bytes();
        else if (v instanceof Map<?, ?> m) {
            n += MAP_BYTES;
            for (Object f : m.values()) n += 48 + memory(f, depth + 1);
        }
        else if (v instanceof Collection<?> c) for (Object f : c) n += 8 + memory(f, depth + 1);
        return n;
    }
}
