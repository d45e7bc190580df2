import static java.nio.charset.StandardCharsets.UTF_8;

import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.backend.AbstractUniqueIndex;
import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.KeyValue;
import de.bwaldvogel.mongo.backend.Missing;
import de.bwaldvogel.mongo.backend.Utils;
import de.bwaldvogel.mongo.bson.BinData;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.bson.ObjectId;
import java.util.AbstractMap.SimpleEntry;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.h2.mvstore.MVMap;

/**
 * A unique index of a collection whose documents are in the order they came (StreamedCollection): from the BSON of a key's values to the place of its document.
 *
 * Keys come in any order. If each went to the map at once, its command's commit would write another page for each, and room in the file becomes free
 * only when everything around it is: files grew to thirty times their data. So the map has only what was merged. Keys of documents behind
 * StreamedCollection.merged() are kept in memory until they are many, then put into the map in order. A kill loses none of them, since these documents are read
 * again when the file is opened. What concerns a document before that place goes to the map at once.
 */
final class UniqueIndex extends AbstractUniqueIndex<Object> {
    /** What a key begins with: its BSON type, or OTHER. */
    private static final byte OTHER = 0, TEXT = Bson.STRING, BINARY = Bson.BINARY, OBJECT_ID = Bson.OBJECT_ID;
    /** About how many bytes a key in `recent` takes: the entry, the key, the head of its bytes, the place. */
    private static final int RECENT_BYTES = 128, MAX_FILTER = 8 << 20, PART = 20_000;

    /** head: the key's first bytes, which tell most keys apart. */
    record Key(byte[] bytes, long head, int hash) implements Comparable<Key> {
        Key(byte[] bytes) { this(bytes, headOf(bytes), Arrays.hashCode(bytes)); }
        private static long headOf(byte[] b) {
            long h = 0;
            for (int i = 0; i < 8; i++) h = h << 8 | (i < b.length ? b[i] & 255 : 0);
            return h;
        }
        @Override public int hashCode() { return hash; }
        @Override public boolean equals(Object o) { return o instanceof Key k && head == k.head && Arrays.equals(bytes, k.bytes); }
        @Override public int compareTo(Key k) {
            int c = Long.compareUnsigned(head, k.head);
            return c != 0 ? c : Arrays.compareUnsigned(bytes, k.bytes);
        }
    }

    private final StreamedCollection rows;
    private final MVMap<byte[], Long> map;
    private final Map<Key, Long> recent = new LinkedHashMap<>(); // in the order they came, which is often that of the keys
    private final String[] fields;
    private final byte[][] names; // the fields that keys are made of, at the top level of a document
    private long recentBytes;
    private Filter filter; // null: none is kept

    /**
     * A Bloom filter of the keys that may be there: many keys share a word of bits, of which each sets some. Most keys of a load are new, and with
     * this they need not be looked up.
     */
    private static final class Filter {
        private static final int KEYS_A_WORD = 4;
        private final long[] words;
        Filter(long keys) { words = new long[Integer.highestOneBit((int) (keys / KEYS_A_WORD) | 511) * 2]; }

        static long bytes(long keys) { return 16 * (keys / KEYS_A_WORD + 512); }
        long room() { return (long) words.length * KEYS_A_WORD; }

        private static long mix(int hash) {
            long h = hash * 0x9e3779b97f4a7c15L;
            return (h ^ h >>> 32) * 0xd6e8feb86659fd93L;
        }

        private static long bits(long h) { return 1L << h | 1L << (h >>> 6) | 1L << (h >>> 12) | 1L << (h >>> 18); }

        void add(Key k) {
            long h = mix(k.hash);
            words[(int) (h >>> 40) & words.length - 1] |= bits(h);
        }

        boolean mayHave(Key k) {
            long h = mix(k.hash), b = bits(h);
            return (words[(int) (h >>> 40) & words.length - 1] & b) == b;
        }
    }

    UniqueIndex(StreamedCollection rows, MVMap<byte[], Long> map, String name, List<IndexKey> keys, boolean sparse) {
        super(name, keys, sparse);
        this.rows = rows;
        this.map = map;
        fields = keys().toArray(String[]::new);
        names = Bson.bytesOf(keys().stream().map(f -> f.replaceFirst("\\..*", "")).distinct().toList());
        if (map.isEmpty()) filter = new Filter(0);
    }

    /** The bytes of a key: for a single text, binary or ObjectId its BSON type and the value; for anything else 0 and a BSON document. */
    private static byte[] encode(Object one) {
        if (one instanceof BinData d) return behind(BINARY, d.getData());
        if (one instanceof ObjectId o) return behind(OBJECT_ID, o.toByteArray());
        return one instanceof String s ? behind(TEXT, s.getBytes(UTF_8)) : encode(Collections.singletonList(one));
    }

    private static byte[] encode(List<?> values) { return behind(OTHER, BsonMaps.bytesOf(BsonMaps.fields(values))); }
    private static byte[] encode(KeyValue k) { return k.size() == 1 ? encode(k.get(0)) : encode(k.stream().toList()); }

    private static byte[] behind(byte type, byte[] v) { return behind(type, v, 0, v.length); }

    private static byte[] behind(byte type, byte[] v, int at, int n) {
        byte[] b = new byte[1 + n];
        b[0] = type;
        System.arraycopy(v, at, b, 1, n);
        return b;
    }

    private static KeyValue decode(byte[] key) {
        byte[] v = Arrays.copyOfRange(key, 1, key.length);
        return switch (key[0]) {
            case BINARY -> new KeyValue(new BinData(v));
            case OBJECT_ID -> new KeyValue(new ObjectId(v));
            case TEXT -> new KeyValue(new String(v, UTF_8));
            default -> new KeyValue(BsonMaps.valuesOf(Bson.decode(v)));
        };
    }

    private Long find(Key k) {
        if (filter != null && !filter.mayHave(k)) return null;
        Long place = recent.isEmpty() ? null : recent.get(k);
        return place != null ? place : map.get(k.bytes);
    }

    @Override protected Object getPosition(KeyValue k) { return find(new Key(encode(k))); }

    @Override protected Object removeDocument(KeyValue k) {
        Key key = new Key(encode(k));
        Long place = recent.remove(key);
        if (place == null) return map.remove(key.bytes);
        grow(-RECENT_BYTES - key.bytes.length);
        return place;
    }

    @Override protected boolean putKeyPosition(KeyValue k, Object place) {
        Key key = new Key(encode(k));
        if (find(key) != null) return false;
        put(key, (Long) place);
        return true;
    }

    private void put(Key k, Long place) {
        if (filter != null) filter.add(k);
        if (place <= rows.merged()) map.put(k.bytes, place);
        else {
            recent.put(k, place);
            grow(RECENT_BYTES + k.bytes.length);
        }
    }

    private void grow(int bytes) {
        recentBytes += bytes;
        rows.grow(bytes);
    }

    /** Puts recent keys into the map, a part at a time; written() then commits them. */
    @SuppressWarnings("unchecked")
    void merge(Runnable written) {
        Map.Entry<Key, Long>[] all = recent.entrySet().toArray(Map.Entry[]::new);
        Arrays.sort(all, Map.Entry.comparingByKey());
        byte[] last = map.lastKey();
        for (int i = 0; i < all.length; i++) {
            byte[] key = all[i].getKey().bytes;
            if (last != null && Arrays.compareUnsigned(key, last) <= 0) map.put(key, all[i].getValue());
            else map.append(last = key, all[i].getValue());
            if (i % PART == PART - 1) written.run();
        }
        recent.clear();
        grow((int) -recentBytes);
        refilter();
    }

    /** Adds the keys of a document that was not merged yet when the file was opened, or only into some of the indexes. */
    void recall(byte[] document, Long place) {
        for (Key k : keysOf(Bson.decode(document, names))) if (map.get(k.bytes) == null) put(k, place);
    }

    /** A new filter with room for twice as many keys, if there is memory for it. */
    private void refilter() {
        long n = map.sizeAsLong();
        if (filter != null && n < filter.room() / 2) return;
        filter = Filter.bytes(2 * n) > MAX_FILTER ? null : new Filter(2 * n);
        if (filter == null) return;
        for (Iterator<byte[]> i = map.keyIterator(null); i.hasNext();) filter.add(new Key(i.next()));
    }

    /** The index is dropped: frees what `recent` has of it. */
    void forget() { grow((int) -recentBytes); }

    /** The keys of a document that is to be added, once it is clear that they are free. known: that was checked already. */
    List<Key> keysOf(Document d, MongoCollection<Object> collection, boolean known) {
        List<Key> keys = keysOf(d);
        if (!known) for (Key k : keys) if (find(k) != null) checkAdd(d, collection); // which says so
        return keys;
    }

    /** The same of a document that is Plain. */
    List<Key> keysOf(byte[] document, MongoCollection<Object> collection) {
        Key plain = fields.length == 1 ? plainKeyOf(document) : null;
        return plain != null && find(plain) == null ? List.of(plain) : keysOf(Bson.decode(document, names), collection, false);
    }

    /** The key of a document whose value is plain and needs no normalisation, from its bytes; null: it has to be decoded. */
    private Key plainKeyOf(byte[] document) {
        int at = Bson.find(document, 0, names[0]);
        if (at < 0 || names[0].length != fields[0].length()) return null;
        int value = Bson.valueAt(document, at);
        return switch (document[at]) {
            case Bson.STRING -> new Key(behind(TEXT, document, value + 4, Bson.int32(document, value) - 1));
            case Bson.OBJECT_ID -> new Key(behind(OBJECT_ID, document, value, 12));
            case Bson.BINARY -> document[value + 4] == 0 ? new Key(behind(BINARY, document, value + 5, Bson.int32(document, value))) : null;
            default -> null;
        };
    }

    private List<Key> keysOf(Document d) {
        Key plain = keyOf(d);
        if (plain != null) return List.of(plain);
        if (isSparse() && keys().stream().allMatch(f -> Utils.getSubdocumentValue(d, f) instanceof Missing)) return List.of();
        List<Key> all = new ArrayList<>();
        for (KeyValue k : getKeyValues(d)) all.add(new Key(encode(k)));
        return all;
    }

    void add(List<Key> keys, Long place) {
        for (Key k : keys) put(k, place);
    }

    /** The single key of a document whose values are plain and need no normalisation; null: the library has to make the keys. */
    private Key keyOf(Document d) {
        Object[] plain = new Object[fields.length];
        for (int i = 0; i < fields.length; i++) {
            plain[i] = d.get(fields[i]);
            if (!(plain[i] instanceof String || plain[i] instanceof BinData || plain[i] instanceof ObjectId)) return null;
        }
        return new Key(plain.length == 1 ? encode(plain[0]) : encode(Arrays.asList(plain)));
    }

    Long placeOf(Object plain) { return find(new Key(encode(plain))); }

    @Override protected Iterable<Map.Entry<KeyValue, Object>> getIterable() {
        Stream<Map.Entry<KeyValue, Object>> merged = map.entrySet().stream().map(e -> entry(e.getKey(), e.getValue())),
                late = recent.entrySet().stream().map(e -> entry(e.getKey().bytes, e.getValue()));
        return Stream.concat(merged, late)::iterator;
    }

    private static Map.Entry<KeyValue, Object> entry(byte[] key, Long place) { return new SimpleEntry<>(decode(key), place); }

    @Override public long getCount() { return map.sizeAsLong() + recent.size(); }
    @Override public boolean isEmpty() { return getCount() == 0; }
    @Override public long getDataSize() { return getCount(); }
}
