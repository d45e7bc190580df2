import de.bwaldvogel.mongo.bson.Document;
import java.util.Collection;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;

/** Which top-level fields of a document a query looks at. The others need not be decoded. */
final class QueryFields {
    private static final Set<String> LISTS = Set.of("$and", "$or", "$nor");

    private QueryFields() { }

    /** Those that decide whether a document matches; null: all may. */
    static byte[][] of(Document filter) {
        Set<String> names = new LinkedHashSet<>();
        return add(filter, names) ? Bson.bytesOf(names) : null;
    }

    private static boolean add(Document filter, Set<String> names) {
        for (Map.Entry<String, Object> e : filter.entrySet()) {
            if (!e.getKey().startsWith("$")) names.add(top(e.getKey()));
            else if (!LISTS.contains(e.getKey()) || !(e.getValue() instanceof Collection<?> c)) return false;
            else for (Object part : c) if (!(part instanceof Document d) || !add(d, names)) return false;
        }
        return true;
    }

    /** Those that a projection of plain names keeps; null: it is another one, or none. */
    static byte[][] kept(Document fields) {
        if (fields == null) return null;
        Set<String> names = new LinkedHashSet<>();
        for (Map.Entry<String, Object> e : fields.entrySet()) {
            boolean keeps = Boolean.TRUE.equals(e.getValue()) || e.getValue() instanceof Number n && n.doubleValue() != 0;
            if (e.getKey().contains("$") || !keeps && !e.getKey().equals("_id")) return null;
            if (keeps) names.add(top(e.getKey()));
        }
        if (names.isEmpty()) return null;
        names.add("_id");
        return Bson.bytesOf(names);
    }

    private static String top(String path) {
        int dot = path.indexOf('.');
        return dot < 0 ? path : path.substring(0, dot);
    }
}
