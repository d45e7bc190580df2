import de.bwaldvogel.mongo.bson.Document;
import java.util.List;
import java.util.Map;

/** Drivers count documents by a pipeline, [{$match: filter}, {$group: {_id: 1, n: {$sum: 1}}}], for which the library looks at every document. */
final class Counting {
    private Counting() { }

    /** The reply to an "aggregate" of that form; null: it has another. */
    static Document reply(StreamedCollection collection, Document command) {
        if (!(command.get("pipeline") instanceof List<?> stages) || stages.size() != 2) return null;
        Document filter = only(stages.get(0), "$match"), group = only(stages.get(1), "$group");
        if (filter == null || group == null || group.size() != 2 || !(group.get("_id") instanceof Integer id)) return null;
        Map.Entry<String, Object> n = group.entrySet().stream().filter(e -> !e.getKey().equals("_id")).findFirst().orElseThrow();
        if (!(n.getValue() instanceof Document sum) || sum.size() != 1 || !Integer.valueOf(1).equals(sum.get("$sum"))) return null;
        int found = collection.count(filter, 0, 0);
        return StreamedCollection.reply("firstBatch", 0, collection.getFullName(), found == 0 ? List.of() : List.of(new Document("_id", id).append(n.getKey(), found)));
    }

    private static Document only(Object stage, String name) { return stage instanceof Document d && d.size() == 1 && d.get(name) instanceof Document v ? v : null; }
}
