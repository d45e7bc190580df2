import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.SecureRandom;
import java.util.Arrays;

/**
 * Whether documents are such that decoding and encoding them gives the same bytes: names that differ, arrays with elements 0, 1, …, texts of
 * valid UTF-8, and types of which the library keeps all. Those with very many names are not looked at, since this takes memory beside any command's
 * bounds.
 */
final class Plain {
    private static final int MAX_BYTES = 16 << 20, MAX_NAMES = 1 << 16, SEED = new SecureRandom().nextInt() | 1;
    private static final char REPLACEMENT = '\uFFFD';

    private final byte[] b;
    /** A hash table of names: where each is, and in which document, by its number. Those of documents before `first` are forgotten. */
    private int[] names = new int[256], in = new int[256];
    private int used, first, last;

    Plain(byte[] message) { b = message; }

    /** Whether the document at `at`, whose lengths and nesting MessageCheck has passed, is one of these. */
    boolean isPlain(int at) {
        used = 0;
        first = last + 1;
        return document(at, false);
    }

    /** Whether the name at `at` is the decimal number i. */
    static boolean isIndex(byte[] b, int at, int i) {
        int digits = 1;
        for (int rest = i; rest > 9; rest /= 10) digits++;
        if (b[at + digits] != 0) return false;
        for (int k = at + digits - 1, rest = i; k >= at; k--, rest /= 10) if (b[k] != '0' + rest % 10) return false;
        return true;
    }

    private boolean document(int from, boolean isArray) {
        int number = ++last, i = 0;
        if (Bson.int32(b, from) > MAX_BYTES) return false;
        for (int at = from + 4; b[at] != 0;) {
            int value = Bson.valueAt(b, at);
            if (isArray ? !isIndex(b, at + 1, i++) : !isNew(number, at + 1, value - 1)) return false;
            if (!isValue(b[at], value)) return false;
            at = value + Bson.sizeOf(b[at], b, value);
        }
        return true;
    }

    private boolean isValue(byte type, int at) {
        return switch (type) {
            case 0x01, 0x09, 0x11, 0x12, 0x10, 0x13, Bson.OBJECT_ID, Bson.NULL, 0x7f, -1 -> true;
            case 0x08 -> b[at] == 0 || b[at] == 1;
            case Bson.STRING -> isText(at + 4, at + 3 + Bson.int32(b, at)) && b[at + 3 + Bson.int32(b, at)] == 0;
            case Bson.BINARY -> b[at + 4] == 0 || (b[at + 4] == 3 || b[at + 4] == 4) && Bson.int32(b, at) == 16;
            case Bson.DOCUMENT, Bson.ARRAY -> document(at, type == Bson.ARRAY);
            default -> false;
        };
    }

    private boolean isText(int from, int to) {
        for (int i = from; i < to; i++) if (b[i] < 0) return new String(b, from, to - from, UTF_8).indexOf(REPLACEMENT) < 0;
        return true;
    }

    /** Remembers the name at b[from..to) of the document of this number. False: it has that name already, or it is no text. */
    private boolean isNew(int number, int from, int to) {
        int hash = number * SEED;
        boolean ascii = true;
        for (int i = from; i < to; i++) {
            hash = (hash ^ b[i]) * 0x01000193;
            ascii &= b[i] >= 0;
        }
        if (!ascii && !isText(from, to) || used == MAX_NAMES) return false;
        if (++used > names.length / 2) grow();
        int slot = slot(hash);
        while (in[slot] >= first) {
            if (in[slot] == number && b[names[slot] + to - from] == 0 && Arrays.equals(b, from, to, b, names[slot], names[slot] + to - from)) return false;
            slot = slot + 1 & names.length - 1;
        }
        names[slot] = from;
        in[slot] = number;
        return true;
    }

    private int slot(int hash) { return (hash ^ hash >>> 15) * SEED >>> 8 & names.length - 1; }

    private void grow() {
        int[] old = names, of = in;
        names = new int[2 * old.length];
        in = new int[2 * old.length];
        used = 1;
        for (int i = 0; i < old.length; i++) if (of[i] >= first) isNew(of[i], old[i], Bson.valueAt(b, old[i] - 1) - 1);
    }
}
