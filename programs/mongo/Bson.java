import static java.nio.charset.StandardCharsets.UTF_8;

import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.bson.BsonDecoder;
import de.bwaldvogel.mongo.wire.bson.BsonEncoder;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import java.util.Arrays;
import java.util.Collection;
import java.util.Map;

/** Documents as their bytes (bsonspec.org), which were checked when they came. Most commands ask of a document only some fields, or none. */
final class Bson {
    static final byte STRING = 0x02, DOCUMENT = 0x03, ARRAY = 0x04, BINARY = 0x05, OBJECT_ID = 0x07, NULL = 0x0a;

    private Bson() { }

    static int int32(byte[] b, int at) { return b[at] & 255 | (b[at + 1] & 255) << 8 | (b[at + 2] & 255) << 16 | b[at + 3] << 24; }

    static Document decode(byte[] document) {
        Worker.check();
        return BsonDecoder.decodeBson(Unpooled.wrappedBuffer(document));
    }

    /** Decodes only the fields of these names. The rest of the document, however large, is skipped. */
    static Document decode(byte[] document, byte[][] names) {
        Worker.check();
        ByteBuf some = Unpooled.buffer(128).writeIntLE(0);
        for (int at = 4; document[at] != 0;) {
            int value = valueAt(document, at), end = value + sizeOf(document[at], document, value);
            for (byte[] n : names)
                if (n.length == value - at - 2 && Arrays.equals(n, 0, n.length, document, at + 1, value - 1)) {
                    some.writeBytes(document, at, end - at);
                    break;
                }
            at = end;
        }
        some.writeByte(0).setIntLE(0, some.writerIndex());
        return BsonDecoder.decodeBson(some);
    }

    static byte[][] bytesOf(Collection<String> names) { return names.stream().map(n -> n.getBytes(UTF_8)).toArray(byte[][]::new); }

    /** Where the element of this name begins, with its type; -1: the document at `from` has none. */
    static int find(byte[] b, int from, byte[] name) {
        for (int at = from + 4; b[at] != 0;) {
            int value = valueAt(b, at);
            if (name.length == value - at - 2 && Arrays.equals(name, 0, name.length, b, at + 1, value - 1)) return at;
            at = value + sizeOf(b[at], b, value);
        }
        return -1;
    }

    /** Where the value of the element at `at` begins. */
    static int valueAt(byte[] b, int at) {
        while (b[++at] != 0) { }
        return at + 1;
    }

    /** The length of the value at `at`. */
    static int sizeOf(byte type, byte[] b, int at) {
        return switch (type) {
            case 0x01, 0x09, 0x11, 0x12 -> 8;
            case STRING, 0x0d, 0x0e -> 4 + int32(b, at);
            case DOCUMENT, ARRAY -> int32(b, at);
            case BINARY -> 5 + int32(b, at);
            case OBJECT_ID -> 12;
            case 0x08 -> 1;
            case 0x0b -> {
                int end = at;
                for (int strings = 0; strings < 2; end++) if (b[end] == 0) strings++;
                yield end - at;
            }
            case 0x10 -> 4;
            case 0x13 -> 16;
            case 0x06, NULL, 0x7f, -1 -> 0;
            default -> throw new IllegalStateException("BSON of type " + type);
        };
    }

    /** Writes a document that may have Stored batches in it. */
    static void write(Map<String, ?> d, ByteBuf out) {
        int start = out.writerIndex();
        out.writeIntLE(0);
        for (Map.Entry<String, ?> e : d.entrySet()) {
            Object v = e.getValue();
            byte type = BsonEncoder.determineType(v);
            out.writeByte(type).writeBytes(e.getKey().getBytes(UTF_8)).writeByte(0);
            if (v instanceof Stored s) s.write(out);
            else if (v instanceof Document inner) write(inner, out);
            else BsonEncoder.encodeValue(type, v, out);
        }
        out.writeByte(0).setIntLE(start, out.writerIndex() - start);
    }
}
