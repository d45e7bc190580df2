import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import java.util.Collection;
import java.util.Locale;
import java.util.Map;
import java.util.Set;

/** The commands and pipeline stages that there are, and who may use them. What is not listed is refused by its name. */
final class CommandPolicy {
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

    private CommandPolicy() { }

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
                && (writes(inner.get("pipeline")) || e.getKey().equals("$facet") && inner.values().stream().anyMatch(CommandPolicy::writes))));
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
                    if (e.getKey().equals("$facet") && e.getValue() instanceof Document facets) facets.values().forEach(CommandPolicy::stages);
                    else if (e.getValue() instanceof Document inner) {
                        stages(inner.get("pipeline"));
                        stages(inner.get("whenMatched"));
                    }
                }
    }

    static String lower(String command) { return command.toLowerCase(Locale.ROOT); }
}
