import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.AbstractCursor;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.Cursor;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.DocumentWithPosition;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.h2.H2Collection;
import de.bwaldvogel.mongo.bson.Document;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.h2.mvstore.MVMap;

/**
 * A collection that is read as its documents are asked for. As it comes, the library gathers all that a query, a count or a pipeline
 * looks at before it does the first of them, and a cursor holds all that it has not given yet: who has much took all memory by
 * reading it. Here a cursor holds a key to go on from, or the keys of what was sorted.
 */
final class Rows extends H2Collection {
    private static final int FEW = 16;

    private final MVMap<Object, Document> data;

    Rows(MongoDatabase database, String name, CollectionOptions options, MVMap<Object, Document> data, MVMap<String, Object> meta, CursorRegistry cursors) {
        super(database, name, options, data, meta, cursors);
        this.data = data;
    }

    @Override protected QueryResult matchDocuments(Document query, Document orderBy, int skip, int limit, int batch, Document fields) {
        if (isNaturalDescending(orderBy)) return super.matchDocuments(query, orderBy, skip, limit, batch, fields);
        if (deriveComparator(orderBy) != null) return inOrder(streamAllDocumentsWithPosition(), query, orderBy, skip, limit, batch, fields);
        if (Worker.rewrites()) return super.matchDocuments(query, orderBy, skip, limit, batch, fields);
        if (batch <= 0) return new QueryResult(() -> new Scan(query, skip, limit, fields));
        return firstOf(new Scan(query, skip, limit, fields), batch);
    }

    @Override protected QueryResult matchDocuments(Document query, Iterable<Object> positions, Document orderBy, int skip, int limit, int batch, Document fields) {
        Stream<DocumentWithPosition<Object>> found = StreamSupport.stream(positions.spliterator(), false)
                .filter(p -> getDocument(p) != null).map(p -> new DocumentWithPosition<>(getDocument(p), p));
        return inOrder(found, query, orderBy, skip, limit, batch, fields);
    }

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

    private QueryResult firstOf(Scan scan, int batch) {
        List<Document> first = scan.takeDocuments(batch);
        if (scan.isEmpty()) return new QueryResult(first);
        cursorRegistry.add(scan);
        return new QueryResult(first, scan);
    }

    /** The library's projection is its own; this is the way to it. */
    private List<Document> project(List<Document> documents, Document fields) {
        if (fields == null || fields.isEmpty() || documents.isEmpty()) return documents;
        return matchDocumentsFromStream(documents.stream(), new Document(), null, 0, 0, 0, fields).collectDocuments();
    }

    /** How much a cursor holds. */
    static int keysOf(Cursor c) { return c instanceof Keys k ? k.keys.size() : 1; }

    /** What was sorted and not given yet. Who changes a document meanwhile changes what is given; who deletes one takes it away. */
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
                Document d = data.get(keys.poll());
                if (d != null) found.add(d);
            }
            return project(found, fields);
        }
    }

    /** All in the order of their keys, from where it stopped. What changes meanwhile is met as it is then. */
    private final class Scan extends AbstractCursor implements Iterator<Document> {
        private final Document query, fields;
        private final ArrayDeque<Document> ahead = new ArrayDeque<>();
        private int toSkip, left, step = 1;
        private Object last;
        private boolean over;
        private org.h2.mvstore.Cursor<Object, Document> at; // of one command

        Scan(Document query, int skip, int limit, Document fields) {
            super(cursorRegistry.generateCursorId());
            this.query = query;
            this.fields = fields;
            toSkip = skip;
            left = limit > 0 ? limit : Integer.MAX_VALUE;
        }

        /** The next that matches, or null. */
        private Document find() {
            if (at == null) {
                at = data.cursor(last);
                if (last != null && at.hasNext() && data.getKeyType().compare(at.next(), last) != 0) at = data.cursor(last);
            }
            while (!over && left > 0 && at.hasNext()) {
                last = at.next();
                Document d = at.getValue();
                if (!documentMatchesQuery(d, query) || toSkip > 0 && toSkip-- > 0) continue;
                left--;
                return d;
            }
            over = true;
            return null;
        }

        /** Up to n, projected a few at a time: what is thrown away of them is not held until the last. */
        private List<Document> find(int n) {
            List<Document> found = new ArrayList<>(), few = new ArrayList<>();
            for (Document d; found.size() + few.size() < n && (d = find()) != null;) {
                few.add(d);
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
                step = fields == null || fields.isEmpty() ? 1 : Math.min(2 * step, FEW);
            }
            return !ahead.isEmpty();
        }

        @Override public Document next() {
            if (!hasNext()) throw new NoSuchElementException();
            return ahead.poll();
        }

        @Override public boolean isEmpty() { return over; }

        /** Between commands no document is kept: whether there is more is looked at, and the next looks again. */
        @Override public List<Document> takeDocuments(int n) {
            if (data.isClosed()) over = true;
            List<Document> found = over ? List.of() : find(n);
            Object given = last;
            int then = left;
            if (!over && find() != null) {
                last = given;
                left = then;
            }
            at = null;
            return found;
        }
    }
}
