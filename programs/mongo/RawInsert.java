import static java.nio.charset.StandardCharsets.UTF_8;

import de.bwaldvogel.mongo.bson.Document;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import java.util.AbstractList;
import java.util.Arrays;

/**
 * The documents of an "insert" command as the bytes that came, which are stored as they are. Decoding and encoding them took most of the time of a
 * load.
 *
 * A message is taken for that when decoding and encoding its documents would give the same bytes again (Plain). Everything else goes through the library's
 * decoder, which refuses or normalises it. So what is stored is the same either way.
 */
final class RawInsert extends AbstractList<Document> {
    private static final int OP_MSG = 2013, HEADER = 16, BODY = 21, MAX = 1 << 17;
    private static final byte[] INSERT = "insert".getBytes(UTF_8), DOCUMENTS = "documents".getBytes(UTF_8);

    private final byte[] message;
    private int[] at = new int[1024]; // where documents begin
    private int n;
    private ByteBuf command;

    private RawInsert(byte[] message) { this.message = message; }

    /** The documents of message[0..length), which MessageCheck has passed; null: the message is not such a one. */
    static RawInsert of(byte[] message, int length) {
        if (Bson.int32(message, 12) != OP_MSG || Bson.int32(message, HEADER) != 0 || message[BODY - 1] != 0) return null;
        RawInsert r = new RawInsert(message);
        if (message[BODY + 4] != Bson.STRING || !Arrays.equals(INSERT, 0, INSERT.length, message, BODY + 5, Bson.valueAt(message, BODY + 4) - 1)) return null;
        int end = BODY + Bson.int32(message, BODY);
        int list = Bson.find(message, BODY, DOCUMENTS);
        boolean found = list < 0 ? r.section(end, length) : end == length && r.array(list, end);
        return found && r.n > 0 ? r : null;
    }

    /** The message without the documents. */
    ByteBuf command() { return command; }

    byte[] bytes(int i) { return Arrays.copyOfRange(message, at[i], at[i] + Bson.int32(message, at[i])); }

    @Override public Document get(int i) { return Bson.decode(bytes(i)); }
    @Override public int size() { return n; }

    private boolean add(Plain plain, int document) {
        if (n == MAX || !plain.isPlain(document)) return false;
        if (n == at.length) at = Arrays.copyOf(at, 2 * n);
        at[n++] = document;
        return true;
    }

    /** One section behind the body: documents one after the other. */
    private boolean section(int from, int length) {
        if (from == length || message[from] != 1 || from + 1 + Bson.int32(message, from + 1) != length) return false;
        int name = from + 5, documents = name + DOCUMENTS.length + 1;
        if (!Arrays.equals(DOCUMENTS, 0, DOCUMENTS.length, message, name, Math.min(name + DOCUMENTS.length, length)) || message[documents - 1] != 0) return false;
        Plain plain = new Plain(message);
        for (int d = documents; d < length; d += Bson.int32(message, d)) if (!add(plain, d)) return false;
        command = Unpooled.copiedBuffer(message, 0, from);
        command.setIntLE(0, from);
        return true;
    }

    /** An array in the body. */
    private boolean array(int element, int end) {
        int value = Bson.valueAt(message, element), behind = value + Bson.int32(message, value);
        if (message[element] != Bson.ARRAY) return false;
        Plain plain = new Plain(message);
        for (int e = value + 4; message[e] != 0;) {
            int d = Bson.valueAt(message, e);
            if (message[e] != Bson.DOCUMENT || !Plain.isIndex(message, e + 1, n) || !add(plain, d)) return false;
            e = d + Bson.int32(message, d);
        }
        if (find(behind)) return false; // "documents" twice
        command = Unpooled.buffer(end - behind + element).writeBytes(message, 0, element).writeBytes(message, behind, end - behind);
        command.setIntLE(0, command.writerIndex());
        command.setIntLE(BODY, command.writerIndex() - BODY);
        return true;
    }

    private boolean find(int from) { return Bson.find(message, from - 4, DOCUMENTS) >= 0; }
}
