import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import java.util.Collection;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** Checks made before a message is decoded, and before a command is executed. */
final class Guard {
    /** MongoDB's limits of a message: https://www.mongodb.com/docs/manual/reference/limits/ */
    static final int MAX_MESSAGE = 48_000_000, MAX_DOCUMENT = 16 * 1024 * 1024 + 16 * 1024, MAX_DEPTH = 100;
    static final int MAX_GREETING = 16 * 1024;
    private static final int OP_MSG = 2013, OP_QUERY = 2004;

    /** Commands that anybody may send, also before the client has proved who it is. They are answered at once. */
    static final Set<String> GREETINGS = Set.of("ismaster", "hello", "ping", "buildinfo", "endsessions", "connectionstatus",
            "getlasterror", "saslstart", "saslcontinue", "whatsmyuri");
    static final Set<String> READS = Set.of("find", "count", "distinct", "getmore", "killcursors", "listcollections", "listindexes",
            "dbstats", "collstats", "listdatabases", "serverstatus", "hostinfo");
    private static final Set<String> WRITES = Set.of("insert", "update", "delete", "findandmodify", "create", "createindexes", "dropindexes",
            "drop", "dropdatabase", "renamecollection", "aggregate", "validate");
    private static final Set<String> ADDS = Set.of("insert", "update", "findandmodify", "create", "createindexes", "renamecollection");
    private static final Set<String> NAMES = Set.of("insert", "update", "delete", "findandmodify", "create", "createindexes", "dropindexes", "drop", "validate");
    private static final Set<String> PLATFORMS = Set.of("serverstatus", "hostinfo");
    private static final Set<String> STAGES = Set.of("$match", "$skip", "$limit", "$sort", "$project", "$count", "$group", "$addFields",
            "$set", "$unwind", "$lookup", "$graphLookup", "$replaceRoot", "$replaceWith", "$sample", "$sortByCount", "$bucket", "$facet", "$unset",
            "$indexStats", "$out", "$merge", "$redact");

    @SuppressWarnings("serial")
    static final class Malformed extends Exception {
        Malformed(String why) { super(why); }
    }

    private final byte[] b;
    private int at;
    private final int end;
    private long elements;

    private Guard(byte[] b, int at, int end) { this.b = b; this.at = at; this.end = end; }

    private void skip(long n) throws Malformed {
        if (n < 0 || n > end - at) throw new Malformed("a length goes beyond the message");
        at += (int) n;
    }

    private int int32() throws Malformed {
        skip(4);
        return (b[at - 4] & 255) | (b[at - 3] & 255) << 8 | (b[at - 2] & 255) << 16 | b[at - 1] << 24;
    }

    private void cstring() throws Malformed {
        int dots = 0;
        for (;; at++) {
            if (at >= end) throw new Malformed("a name has no end");
            if (b[at] == 0) break;
            if (b[at] == '.') dots++;
        }
        at++;
        if (dots > MAX_DEPTH) throw new Malformed("a path has more than " + MAX_DEPTH + " parts");
    }

    /** Walks over BSON (bsonspec.org). Iterative, so that no nesting is too deep for it. */
    private void document() throws Malformed {
        int[] ends = new int[MAX_DEPTH + 1];
        int depth = 0, from = at, size = int32();
        if (size < 5 || size > MAX_DOCUMENT || size > end - from) throw new Malformed("a document of " + size + " bytes");
        ends[0] = from + size;
        while (depth >= 0) {
            if (at >= ends[depth]) throw new Malformed("a document has no end");
            int type = b[at++] & 255;
            if (type == 0) {
                if (at != ends[depth--]) throw new Malformed("a document is not as long as it says");
                continue;
            }
            elements++;
            cstring();
            switch (type) {
                case 0x03, 0x04 -> {
                    int start = at, n = int32();
                    if (n < 5 || n > ends[depth] - start) throw new Malformed("a document of " + n + " bytes");
                    if (++depth > MAX_DEPTH) throw new Malformed("nested deeper than " + MAX_DEPTH);
                    ends[depth] = start + n;
                }
                case 0x01, 0x09, 0x11, 0x12 -> skip(8);
                case 0x02, 0x0d, 0x0e -> { int n = int32(); if (n < 1) throw new Malformed("a string of " + n + " bytes"); skip(n); }
                case 0x05 -> { int n = int32(); skip(1); skip(n); }
                case 0x06, 0x0a, 0x7f, 0xff -> { }
                case 0x07 -> skip(12);
                case 0x08 -> skip(1);
                case 0x0b -> { cstring(); cstring(); }
                case 0x10 -> skip(4);
                case 0x13 -> skip(16);
                default -> throw new Malformed("BSON type " + type + " is not supported");
            }
        }
    }

    /** Checks a whole message in b[0..n). Returns about how much heap it takes when decoded. */
    static long check(byte[] b, int n) throws Malformed {
        Guard g = new Guard(b, 12, n);
        switch (g.int32()) {
            case OP_MSG -> {
                int flags = g.int32(), stop = (flags & 1) != 0 ? n - 4 : n, bodies = 0;
                if ((flags & ~1) != 0) throw new Malformed("flags " + flags + " are not supported; writes have to be acknowledged");
                while (g.at < stop) {
                    byte kind = b[g.at++];
                    if (kind == 0) { g.document(); bodies++; }
                    else if (kind == 1) {
                        int from = g.at, size = g.int32();
                        if (size < 5 || size > stop - from) throw new Malformed("a section of " + size + " bytes");
                        g.cstring();
                        do g.document(); while (g.at < from + size);
                        if (g.at != from + size) throw new Malformed("a section is not as long as it says");
                    } else throw new Malformed("section of kind " + kind);
                }
                if (bodies != 1) throw new Malformed(bodies + " bodies");
            }
            case OP_QUERY -> {
                g.skip(4);
                g.cstring();
                g.skip(8);
                g.document();
                if (g.at < n) g.document();
            }
            default -> throw new Malformed("the operation is neither OP_MSG nor OP_QUERY");
        }
        return 2L * n + 100 * g.elements;
    }

    /** Refuses, by name, commands and stages that are not on the lists. */
    static void command(String command, Document query, boolean platform) {
        String name = lower(command);
        if (!READS.contains(name) && !WRITES.contains(name)) throw new MongoServerError(59, "CommandNotFound", "no such command: '" + command + "'");
        if (PLATFORMS.contains(name) && !platform) throw new MongoServerError(13, "Unauthorized", "not authorized to execute " + name);
        if (!platform && NAMES.contains(name)) collection(query.get(command));
        if (name.equals("renamecollection")) {
            collection(afterDatabase(query.get(command)));
            collection(afterDatabase(query.get("to")));
        }
        if (name.equals("createindexes") && query.get("indexes") instanceof Collection<?> c)
            for (Object index : c) if (index instanceof Document d) d.remove("ns"); // the command says of what
        if (name.equals("aggregate")) stages(query.get("pipeline"));
    }

    /** Whether a command adds to what a database holds. */
    static boolean adds(String command, Document query) {
        return ADDS.contains(lower(command)) || (lower(command).equals("aggregate") && writes(query.get("pipeline")));
    }

    static boolean writes(Object pipeline) {
        return pipeline instanceof Collection<?> c && c.stream().anyMatch(s -> s instanceof Document d && d.entrySet().stream().anyMatch(e ->
                e.getKey().equals("$out") || e.getKey().equals("$merge") || e.getValue() instanceof Document inner
                && (writes(inner.get("pipeline")) || e.getKey().equals("$facet") && inner.values().stream().anyMatch(Guard::writes))));
    }

    private static String afterDatabase(Object namespace) {
        return namespace instanceof String s && s.indexOf('.') > 0 ? s.substring(s.indexOf('.') + 1) : "";
    }

    /** Collections of the store itself: writing to them would destroy the database. */
    private static void collection(Object name) {
        if (!(name instanceof String s) || s.isEmpty() || s.startsWith("system.") || s.indexOf(0) >= 0 || s.indexOf('$') >= 0)
            throw new MongoServerError(73, "InvalidNamespace", "Invalid collection name: '" + name + "'");
    }

    /** Where $out and $merge write. */
    private static void target(Object into) {
        if (into instanceof Document d) target(d.containsKey("into") ? d.get("into") : d.get("coll"));
        else collection(into);
    }

    private static void stages(Object pipeline) {
        if (!(pipeline instanceof Collection<?> c)) return;
        for (Object stage : c)
            if (stage instanceof Document d)
                for (Map.Entry<String, Object> e : d.entrySet()) {
                    if (!STAGES.contains(e.getKey()))
                        throw new MongoServerError(40324, "Unrecognized pipeline stage name: '" + e.getKey() + "'");
                    if (e.getKey().equals("$out") || e.getKey().equals("$merge")) target(e.getValue());
                    if (e.getKey().equals("$facet") && e.getValue() instanceof Document facets) facets.values().forEach(Guard::stages);
                    else if (e.getValue() instanceof Document inner) {
                        stages(inner.get("pipeline"));
                        stages(inner.get("whenMatched"));
                    }
                }
    }

    static String lower(String command) { return command.toLowerCase(Locale.ROOT); }
}
