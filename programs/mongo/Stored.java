import static java.nio.charset.StandardCharsets.US_ASCII;

import de.bwaldvogel.mongo.bson.Document;
import io.netty.buffer.ByteBuf;
import java.util.AbstractList;
import java.util.ArrayList;
import java.util.List;

/** A batch of documents for a reply, as the bytes that are stored. */
final class Stored extends AbstractList<Document> {
    private final List<byte[]> documents = new ArrayList<>();
    private int bytes;

    void add(byte[] document) {
        documents.add(document);
        bytes += document.length;
    }

    /** Of all documents. */
    int bytes() { return bytes; }

    @Override public Document get(int i) { return Bson.decode(documents.get(i)); }
    @Override public int size() { return documents.size(); }

    /** Writes them as a BSON array. */
    void write(ByteBuf out) {
        int start = out.writerIndex(), i = 0;
        out.ensureWritable(bytes + 8 * documents.size() + 16).writeIntLE(0);
        for (byte[] d : documents) out.writeByte(Bson.DOCUMENT).writeBytes(Integer.toString(i++).getBytes(US_ASCII)).writeByte(0).writeBytes(d);
        out.writeByte(0).setIntLE(start, out.writerIndex() - start);
    }
}
