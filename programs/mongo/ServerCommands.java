import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.AbstractMongoBackend;
import de.bwaldvogel.mongo.exception.MongoServerError;

/** Answers commands about the server, which need no database. */
final class ServerCommands extends AbstractMongoBackend {
    @Override protected MongoDatabase openOrCreateDatabase(String name) {
        throw new MongoServerError(13, "Unauthorized", "there is no database " + name);
    }
}
