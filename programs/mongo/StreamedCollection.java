import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.AbstractCursor;
import de.bwaldvogel.mongo.backend.ArrayFilters;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.Cursor;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.DocumentWithPosition;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.Missing;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.Utils;
import de.bwaldvogel.mongo.backend.h2.H2Collection;
import de.bwaldvogel.mongo.bson.BinData;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.bson.ObjectId;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.oplog.Oplog;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.UUID;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.h2.mvstore.MVMap;

/**
 * A collection whose documents are read one by one, as they are asked for. As it comes, the library gathers everything that a query, a count or a
 * pipeline looks at before it handles the first document, and a cursor holds everything that it has not returned yet. So a tenant with much data took
 * all memory by reading it. Here a cursor holds a key to go on from, or the keys of what was sorted.
 */
final class StreamedCollection extends H2Collection {
    /** Pages have so many documents of less than LARGE bytes as MVStore puts keys on a page; of others only what MVStore's splitting of pages leaves. */
    private static final int FEW = 16, LARGE = 1024;
    private static final byte[] ID = {'_', 'i', 'd'};
    private static final String MERGED = "merged", DATA_SIZE = "dataSize", ID_INDEX = "_id_";

    private final BsonMaps maps;
    private final MVMap<Object, byte[]> data;
    private final MVMap<String, Object> meta;
    private final boolean inOrder;
    private long next, merged; // places of the next document, and of the last one whose keys were merged into the indexes' maps
    private int grown;         // what the collection's size in `meta` does not count yet
    private long reader, unread; // the start of the command that reads, and how many bytes it has not read yet

    @SuppressWarnings("unchecked") // the library only hands it to what is overridden here, counts, and asks whether it is empty
    StreamedCollection(BsonMaps maps, MongoDatabase database, String name, CollectionOptions options, MVMap<Object, byte[]> data, MVMap<String, Object> meta, CursorRegistry cursors) {
        super(database, name, options, (MVMap<Object, Document>) (MVMap<Object, ?>) data, meta, cursors);
        this.maps = maps;
        this.data = data;
        this.meta = meta;
        if (data.isEmpty() && "_id".equals(options.getIdField()) && !meta.containsKey(MERGED)) meta.put(MERGED, -1L);
        inOrder = meta.get(MERGED) instanceof Long;
        merged = inOrder ? (Long) meta.get(MERGED) : -1;
        next = Math.max(merged, inOrder && !data.isEmpty() ? (Long) data.lastKey() : -1) + 1;
    }

    /** Whether documents are in the order they came. Else they are under their _ids, as in earlier versions. */
    boolean isInOrder() { return inOrder; }
    long merged() { return merged; }
    void grow(int bytes) { maps.grow(this, bytes); }

    @Override protected synchronized void updateDataSize(int change) {
        grown += change;
        maps.touch(this);
    }

    @Override protected int getDataSize() { return super.getDataSize() + grown; }

    void settle() {
        if (grown != 0 && !meta.isClosed()) super.updateDataSize(grown);
        grown = 0;
    }

    void merge(Runnable written) {
        for (Index<Object> i : getIndexes()) if (i instanceof UniqueIndex u) u.merge(written);
        merged = next - 1;
        if (inOrder && !meta.isClosed()) meta.put(MERGED, merged);
    }

    /** Brings an index that was just opened up to date: it has what was merged; the keys of later documents are read again. */
    void catchUp(UniqueIndex index) {
        for (org.h2.mvstore.Cursor<Object, byte[]> c = data.cursor(merged + 1); c.hasNext();) {
            Long place = (Long) c.next();
            index.recall(c.getValue(), place);
        }
    }

    /** A document counts towards what its command read as often as it is read, but all together never as more than the collection has. */
    private Document read(byte[] bytes) {
        isRead(bytes);
        return Bson.decode(bytes);
    }

    private void isRead(byte[] bytes) {
        Worker.check();
        if (Worker.begun() != reader) {
            reader = Worker.begun();
            unread = ((Number) meta.get(DATA_SIZE)).longValue() + grown;
        }
        if (unread > 0) Worker.read(bytes.length);
        unread -= bytes.length;
    }

    private static byte[] encode(Document d) {
        BsonMaps.memory(d); // refuses what is nested too deep
        return BsonMaps.bytesOf(d);
    }

    @Override protected Object addDocumentInternal(Document d) {
        byte[] bytes = encode(d);
        if (inOrder) return append(bytes);
        Object key = getIdField() == null ? UUID.randomUUID() : Missing.ofNullable(Utils.getSubdocumentValue(d, getIdField()));
        put(key, bytes);
        return key;
    }

    private void put(Object key, byte[] bytes) {
        if (data.put(key, bytes) != null) throw new IllegalStateException("there is a document under " + key + " in " + this);
    }

    private Long append(byte[] bytes) {
        Long place = next++;
        if (bytes.length < LARGE) data.append(place, bytes);
        else put(place, bytes);
        maps.come(bytes.length);
        return place;
    }

    @Override protected Document getDocument(Object place) {
        byte[] bytes = data.get(place);
        return bytes == null ? null : read(bytes);
    }

    @Override protected void removeDocument(Object place) {
        if (data.remove(place) == null) throw new NoSuchElementException("no document under " + place + " in " + this);
    }

    @Override protected Stream<DocumentWithPosition<Object>> streamAllDocumentsWithPosition() {
        return data.entrySet().stream().map(e -> new DocumentWithPosition<>(read(e.getValue()), e.getKey()));
    }

    @Override protected void handleUpdate(Object place, Document before, Document after) { data.put(Missing.ofNullable(place), encode(after)); }

    /** The library's update, with each key made and looked up only once. */
    @Override public synchronized void addDocument(Document d) {
        Object id = d.get("_id");
        if (!inOrder || id == null || id instanceof Collection) super.addDocument(d);
        else addTo(d, encode(d), false);
    }

    private void addTo(Document d, byte[] bytes, boolean isNew) {
        List<Index<Object>> indexes = getIndexes();
        List<List<UniqueIndex.Key>> keys = new ArrayList<>(indexes.size());
        for (Index<Object> i : indexes) keys.add(i instanceof UniqueIndex u ? u.keysOf(d, this, isNew && u.getName().equals(ID_INDEX)) : List.of());
        addTo(keys, bytes);
    }

    private void addTo(List<List<UniqueIndex.Key>> keys, byte[] bytes) {
        Long place = append(bytes);
        for (int i = 0; i < keys.size(); i++) if (getIndexes().get(i) instanceof UniqueIndex u) u.add(keys.get(i), place);
        updateDataSize(bytes.length);
    }

    @Override public synchronized List<Document> insertDocuments(List<Document> documents, boolean ordered) {
        if (!inOrder || !(documents instanceof RawInsert raw)) return super.insertDocuments(documents, ordered);
        List<Document> refused = new ArrayList<>();
        for (int i = 0; i < raw.size() && !(ordered && !refused.isEmpty()); i++)
            try {
                add(raw, i);
            } catch (MongoServerError e) {
                Document d = new Document("index", i).append("errmsg", e.getMessageWithoutErrorCode()).append("code", e.getCode());
                d.putIfNotNull("codeName", e.getCodeName());
                refused.add(d);
            }
        return refused;
    }

    private void add(RawInsert raw, int i) {
        Worker.check();
        byte[] bytes = raw.bytes(i);
        int id = Bson.find(bytes, 0, ID);
        if (id < 0 || bytes[id] == Bson.NULL || bytes[id] == Bson.ARRAY) {
            addDocument(raw.get(i)); // which gives it an _id, or refuses it
            return;
        }
        List<Index<Object>> indexes = getIndexes();
        List<List<UniqueIndex.Key>> keys = new ArrayList<>(indexes.size());
        for (Index<Object> index : indexes) keys.add(index instanceof UniqueIndex u ? u.keysOf(bytes, this) : List.of());
        addTo(keys, bytes);
    }

    @Override public synchronized Document updateDocuments(Document query, Document update, ArrayFilters filters, boolean many, boolean upsert, Oplog oplog) {
        Document result = many ? null : replace(query, update, upsert);
        return result != null ? result : super.updateDocuments(query, update, filters, many, upsert, oplog);
    }

    /** Replaces one whole document by a plain _id: what loads do a million times. Null: that is not what the command asks for. */
    private Document replace(Document query, Document by, boolean upsert) {
        Object id = query.get("_id");
        if (!inOrder || query.size() != 1 || !(id instanceof BinData || id instanceof String || id instanceof ObjectId)) return null;
        if (!(getIndexes().get(0) instanceof UniqueIndex ids) || !ids.getName().equals(ID_INDEX) ) return null;
        for (String name : by.keySet()) if (name.startsWith("$")) return null;
        if (by.containsKey("_id") && !id.equals(by.get("_id"))) return null;
        Document d = by;
        if (by.isEmpty() || !by.keySet().iterator().next().equals("_id")) {
            d = new Document("_id", id);
            d.putAll(by);
        }
        Utils.validateFieldNames(d);
        byte[] bytes = BsonMaps.bytesOf(d); // its depth is a message's
        Long place = ids.placeOf(id);
        Document result = new Document();
        if (place == null && upsert) {
            addTo(d, bytes, true);
            result.put("upserted", id);
        }
        byte[] old = place == null ? null : data.get(place);
        boolean differs = old != null && !Arrays.equals(old, bytes);
        if (differs) put(place, old, d, bytes);
        return result.append("n", old == null ? 0 : 1).append("nModified", differs ? 1 : 0);
    }

    private void put(Long place, byte[] old, Document d, byte[] bytes) {
        Document before = getIndexes().size() > 1 ? read(old) : null;
        if (before != null) {
            for (Index<Object> i : getIndexes()) i.checkUpdate(before, d, this);
            for (Index<Object> i : getIndexes()) i.updateInPlace(before, d, place, this);
        }
        data.put(place, bytes);
        updateDataSize(bytes.length - old.length);
    }

    @Override protected QueryResult matchDocuments(Document query, Document orderBy, int skip, int limit, int batch, Document fields) {
        if (isNaturalDescending(orderBy)) return super.matchDocuments(query, orderBy, skip, limit, batch, fields);
        if (deriveComparator(orderBy) != null) return inOrder(streamAllDocumentsWithPosition(), query, orderBy, skip, limit, batch, fields);
        if (Worker.rewrites()) return matchDocumentsFromStream(all(), query, orderBy, skip, limit, batch, fields);
        if (batch <= 0) return new QueryResult(() -> new Scan(query, skip, limit, fields));
        return firstOf(new Scan(query, skip, limit, fields), batch);
    }

    @Override protected QueryResult matchDocuments(Document query, Iterable<Object> positions, Document orderBy, int skip, int limit, int batch, Document fields) {
        Stream<DocumentWithPosition<Object>> found = StreamSupport.stream(positions.spliterator(), false)
                .map(p -> new DocumentWithPosition<>(getDocument(p), p)).filter(d -> d.getDocument() != null);
        return inOrder(found, query, orderBy, skip, limit, batch, fields);
    }

    private Stream<Document> all() { return streamAllDocumentsWithPosition().map(DocumentWithPosition::getDocument); }

    private QueryResult inOrder(Stream<DocumentWithPosition<Object>> all, Document query, Document orderBy, int skip, int limit, int batch, Document fields) {
        Comparator<Document> order = deriveComparator(orderBy);
        Stream<DocumentWithPosition<Object>> s = all.filter(d -> documentMatchesQuery(d.getDocument(), query));
        if (order != null) s = s.sorted((a, b) -> order.compare(a.getDocument(), b.getDocument()));
        if (skip > 0) s = s.skip(skip);
        if (limit > 0) s = s.limit(limit);
        List<DocumentWithPosition<Object>> found = s.collect(Collectors.toList());
        int n = batch > 0 ? Math.min(batch, found.size()) : found.size();
        List<Document> first = project(found.subList(0, n).stream().map(DocumentWithPosition::getDocument).toList(), fields);
        if (n == found.size()) return new QueryResult(first);
        Keys rest = new Keys(found.subList(n, found.size()).stream().map(DocumentWithPosition::getPosition).collect(Collectors.toList()), fields);
        cursorRegistry.add(rest);
        return new QueryResult(first, rest);
    }

    /**
     * Answers a "find" that returns whole documents in their order, of which none has to be decoded for the reply; null: the library has to do it.
     * n, bytes: at most so many documents, and about so many bytes of them.
     */
    Document find(Document command, int n, int bytes) {
        if (!(command.getOrDefault("filter", new Document()) instanceof Document filter) || isGiven(command, "sort") || isGiven(command, "projection")
                || isIndexed(filter)) return null;
        int skip = ((Number) command.getOrDefault("skip", 0)).intValue(), limit = ((Number) command.getOrDefault("limit", 0)).intValue();
        if (skip < 0 || limit < 0) return null;
        Scan scan = new Scan(filter, skip, limit, null);
        Stored first = scan.takeStored(n, bytes);
        if (!scan.isEmpty()) cursorRegistry.add(scan);
        return reply("firstBatch", scan.isEmpty() ? 0 : scan.getId(), getFullName(), first);
    }

    private static boolean isGiven(Document command, String option) {
        return command.get(option) != null && !(command.get(option) instanceof Document d && d.isEmpty());
    }

    private boolean isIndexed(Document filter) { return getIndexes().stream().anyMatch(i -> i.canHandle(filter)); }

    /** The reply to a command that returns documents by a cursor. */
    static Document reply(String batch, long cursor, String namespace, List<Document> documents) {
        Document reply = new Document("cursor", new Document("id", cursor).append("ns", namespace).append(batch, documents));
        reply.put("ok", 1.0);
        return reply;
    }

    @Override public int count(Document filter, int skip, int limit) {
        if (filter == null || filter.isEmpty() || isIndexed(filter)) return super.count(filter, skip, limit);
        Scan scan = new Scan(filter, skip, Math.max(0, limit), null);
        int n = 0;
        while (scan.advance()) n++;
        return n;
    }

    private QueryResult firstOf(Scan scan, int batch) {
        List<Document> first = scan.takeDocuments(batch);
        if (scan.isEmpty()) return new QueryResult(first);
        cursorRegistry.add(scan);
        return new QueryResult(first, scan);
    }

    /** The library's projection is private; this is a way to it. */
    private List<Document> project(List<Document> documents, Document fields) {
        if (fields == null || fields.isEmpty() || documents.isEmpty()) return documents;
        return matchDocumentsFromStream(documents.stream(), new Document(), null, 0, 0, 0, fields).collectDocuments();
    }

    /** How many bytes a cursor holds. */
    static int keysOf(Cursor c) { return c instanceof Keys k ? k.keys.size() : 1; }

    /** A cursor over sorted documents. A document that is changed meanwhile is returned as changed; one that is deleted is left out. */
    private final class Keys extends AbstractCursor {
        private final ArrayDeque<Object> keys;
        private final Document fields;

        Keys(List<Object> keys, Document fields) {
            super(cursorRegistry.generateCursorId());
            this.keys = new ArrayDeque<>(keys);
            this.fields = fields;
        }

        @Override public boolean isEmpty() { return keys.isEmpty() || data.isClosed(); }

        @Override public List<Document> takeDocuments(int n) {
            List<Document> found = new ArrayList<>();
            while (found.size() < n && !isEmpty()) {
                Document d = getDocument(keys.poll());
                if (d != null) found.add(d);
            }
            return project(found, fields);
        }
    }

    /** A cursor over all documents in the order of their keys, from where it stopped. Changes meanwhile are seen when it gets there. */
    final class Scan extends AbstractCursor implements Iterator<Document> {
        private final Document query, fields;
        private final byte[][] asked, given; // the fields that have to be decoded to see whether a document matches, and for the reply; null: all
        private final ArrayDeque<Document> ahead = new ArrayDeque<>();
        private int toSkip, left, step = 1;
        private Object last;
        private boolean over;
        private byte[] bytes; // of the document it stands at
        private org.h2.mvstore.Cursor<Object, byte[]> at; // of one command

        Scan(Document query, int skip, int limit, Document fields) {
            super(cursorRegistry.generateCursorId());
            this.query = query;
            this.fields = fields;
            asked = QueryFields.of(query);
            given = QueryFields.kept(fields);
            toSkip = skip;
            left = limit > 0 ? limit : Integer.MAX_VALUE;
        }

        boolean isWhole() { return fields == null || fields.isEmpty(); }

        private boolean matches() { return query.isEmpty() || documentMatchesQuery(asked == null ? Bson.decode(bytes) : Bson.decode(bytes, asked), query); }

        /** Goes to the next that matches; false: there is none. */
        private boolean advance() {
            if (at == null) {
                at = data.cursor(last);
                if (last != null && at.hasNext() && data.getKeyType().compare(at.next(), last) != 0) at = data.cursor(last);
            }
            while (!over && left > 0 && at.hasNext()) {
                last = at.next();
                bytes = at.getValue();
                isRead(bytes);
                if (!matches() || toSkip > 0 && toSkip-- > 0) continue;
                left--;
                return true;
            }
            over = true;
            return false;
        }

        /** Up to n documents, projected a few at a time, so that their unprojected forms are not all held until the end. */
        private List<Document> find(int n) {
            List<Document> found = new ArrayList<>(), few = new ArrayList<>();
            while (found.size() + few.size() < n && advance()) {
                few.add(given == null ? Bson.decode(bytes) : Bson.decode(bytes, given));
                if (few.size() < FEW) continue;
                found.addAll(project(few, fields));
                few.clear();
            }
            found.addAll(project(few, fields));
            return found;
        }

        @Override public boolean hasNext() {
            if (ahead.isEmpty() && !over) {
                ahead.addAll(find(step));
                step = isWhole() ? 1 : Math.min(2 * step, FEW);
            }
            return !ahead.isEmpty();
        }

        @Override public Document next() {
            if (!hasNext()) throw new NoSuchElementException();
            return ahead.poll();
        }

        @Override public boolean isEmpty() { return over; }

        @Override public List<Document> takeDocuments(int n) {
            List<Document> found = begin() ? find(n) : List.of();
            end();
            return found;
        }

        /** Up to n documents as they are stored; no more than about `most` bytes of them, but one at least. */
        Stored takeStored(int n, int most) {
            Stored found = new Stored();
            if (begin()) while (found.size() < n && found.bytes() < most && advance()) found.add(bytes);
            end();
            return found;
        }

        private boolean begin() {
            if (data.isClosed()) over = true;
            return !over;
        }

        /** No document is kept between commands: whether there is more is looked up, and the next command looks again. */
        private void end() {
            Object stood = last;
            int then = left;
            if (!over && advance()) {
                last = stood;
                left = then;
            }
            at = null;
            bytes = null;
        }
    }
}
