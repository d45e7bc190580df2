import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.AbstractMongoBackend;
import de.bwaldvogel.mongo.exception.MongoServerError;

/** Answers what is about the server and no database. */
final class Lobby extends AbstractMongoBackend {
    @Override protected MongoDatabase openOrCreateDatabase(String name) {
        throw new MongoServerError(13, "Unauthorized", "there is no database " + name);
    }
}
