/** What is checked of a message before it is decoded: lengths, nesting, types, and how much memory it will take. */
final class MessageCheck {
    /** MongoDB's limits of a message: https://www.mongodb.com/docs/manual/reference/limits/ */
    static final int MAX_MESSAGE = 48_000_000, MAX_DOCUMENT = 16 * 1024 * 1024 + 16 * 1024, MAX_DEPTH = 100;
    static final int MAX_GREETING = 16 * 1024;
    private static final int OP_MSG = 2013, OP_QUERY = 2004;

    @SuppressWarnings("serial")
    static final class Malformed extends Exception {
        Malformed(String why) { super(why); }
    }

    private final byte[] b;
    private int at;
    private final int end;
    private long elements;

    private MessageCheck(byte[] b, int at, int end) { this.b = b; this.at = at; this.end = end; }

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

    /** Of the subtypes that the library decodes: generic, UUID (old and new), user defined. */
    private void binary() throws Malformed {
        int n = int32(), kind = at < end ? b[at] & 255 : 0;
        skip(1);
        if (kind != 0 && kind != 3 && kind != 4 && kind != 0x80) throw new Malformed("binary data of subtype " + kind + " is not supported");
        if ((kind == 3 || kind == 4) && n != 16) throw new Malformed("a UUID of " + n + " bytes");
        skip(n);
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
                case 0x02, 0x0d -> { int n = int32(); if (n < 1) throw new Malformed("a string of " + n + " bytes"); skip(n); }
                case 0x05 -> binary();
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
        MessageCheck g = new MessageCheck(b, 12, n);
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
}
