import de.bwaldvogel.mongo.bson.BinData;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerException;
import de.bwaldvogel.mongo.wire.MongoWireProtocolHandler;
import de.bwaldvogel.mongo.wire.message.ClientRequest;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.embedded.EmbeddedChannel;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.Stream;

/**
 * What a stranger sends to the embedded MongoDB, mutated: MessageCheck takes or refuses it and throws nothing else; what it takes is decoded in no
 * more heap than it said; documents that would be stored as they came are what they decode to; commands are refused by the library's errors; and
 * whatever stands in SCRAM's messages proves nothing.
 *
 *   FuzzMongo CORPUS_DIRECTORY ROUNDS [SECONDS]
 */
final class FuzzMongo {
    private static final com.sun.management.ThreadMXBean threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();

    private static final class Decoder extends MongoWireProtocolHandler {
        ClientRequest message(ChannelHandlerContext ctx, ByteBuf b) throws Exception { return decode(ctx, b); }
    }

    private static final Decoder decoder = new Decoder();
    private static ChannelHandlerContext ctx;
    private static Users access;
    private static long taken, refused, decoded, plain;
    private static boolean warm; // classes are loaded

    private static byte[] mutate(byte[] from, Random r) {
        byte[] b = from.clone();
        for (int k = r.nextInt(4); k >= 0; k--) {
            int at = b.length > 16 ? 16 + r.nextInt(b.length - 16) : 0, n = Math.min(r.nextInt(64), b.length - at);
            switch (r.nextInt(5)) {
                case 0 -> { if (b.length > at) b[at] = (byte) r.nextInt(256); }
                case 1 -> { // a length or number
                    int v = new int[] {0, -1, 4, 5, 1 << 30, Integer.MIN_VALUE, b.length - at, r.nextInt()}[r.nextInt(8)];
                    for (int i = 0; i < 4 && at + i < b.length; i++) b[at + i] = (byte) (v >> 8 * i);
                }
                case 2 -> { // leave out
                    byte[] c = Arrays.copyOf(b, b.length - n);
                    System.arraycopy(b, at + n, c, at, b.length - at - n);
                    b = c;
                }
                case 3 -> { // twice
                    byte[] c = Arrays.copyOf(b, b.length + n);
                    System.arraycopy(b, at, c, at + n, b.length - at);
                    b = c;
                }
                default -> { if (b.length > at) b[at] = (byte) new int[] {1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17, 18, 19, 127, 255}[r.nextInt(16)]; }
            }
        }
        return b;
    }

    private static void message(byte[] b) throws Exception {
        long heap;
        if (b.length < 21) return;
        try { heap = MessageCheck.check(b, b.length); } catch (MessageCheck.Malformed e) { refused++; return; }
        taken++;
        for (int i = 0; i < 4; i++) b[i] = (byte) (b.length >> 8 * i); // as Connection reads them
        RawInsert raw = RawInsert.of(b, b.length);
        long before = threads.getThreadAllocatedBytes(Thread.currentThread().getId());
        ClientRequest m;
        if (raw != null) stored(raw, b);
        try { m = decoder.message(ctx, Unpooled.wrappedBuffer(b)); } catch (StackOverflowError | OutOfMemoryError e) { throw new AssertionError("decoding", e); } catch (Throwable e) { return; }
        long took = threads.getThreadAllocatedBytes(Thread.currentThread().getId()) - before;
        if (warm && took > 4 * heap + 100_000) throw new AssertionError("it took " + took + " bytes of heap, not " + heap);
        decoded++;
        if (!(m instanceof MongoMessage) || ((MongoMessage) m).getDocument().isEmpty()) return;
        Document d = ((MongoMessage) m).getDocument();
        BsonMaps.memory(d);
        String command = d.keySet().iterator().next();
        try { CommandPolicy.command(command, d, false); } catch (MongoServerException e) { /* by name */ }
        CommandPolicy.adds(command, d);
        if (d.get("payload") instanceof BinData p) scram(p.getData());
    }

    private static Document commandOf(ByteBuf b) {
        try { return ((MongoMessage) decoder.message(ctx, b)).getDocument(); } catch (Exception e) { return null; }
    }

    /** Documents that would be stored as they came are what decoding and encoding makes of them, in a command that is the same otherwise. */
    private static void stored(RawInsert raw, byte[] b) {
        Document whole = commandOf(Unpooled.wrappedBuffer(b)), rest = commandOf(raw.command());
        if (whole == null && rest == null) return;
        if (whole == null || rest == null) throw new AssertionError("only a part of it is refused");
        plain++;
        List<?> documents = (List<?>) whole.remove("documents");
        if (!rest.equals(whole) || documents.size() != raw.size()) throw new AssertionError("the command is another");
        for (int i = 0; i < raw.size(); i++)
            if (!documents.get(i).equals(raw.get(i)) || !Arrays.equals(BsonMaps.bytesOf((Document) documents.get(i)), raw.bytes(i)))
                throw new AssertionError("document " + i + " would be another");
    }

    private static void scram(byte[] payload) {
        Users.Scram s = access.new Scram();
        try { s.start(payload); } catch (Users.Refused e) { /* its right */ }
        try {
            s.finish(payload);
            throw new AssertionError("proved by " + new String(payload, StandardCharsets.UTF_8));
        } catch (Users.Refused e) { /* its right */ }
    }

    public static void main(String[] a) throws Exception {
        List<byte[]> corpus = new ArrayList<>();
        try (Stream<Path> files = Files.list(Path.of(a[0]))) {
            for (Path p : files.sorted().toList()) corpus.add(Files.readAllBytes(p));
        }
        Path users = Files.createTempFile("fuzz", ".users");
        Files.writeString(users, "simbdp_acme " + "a".repeat(32) + " acme -1\n");
        access = new Users(users);
        Files.delete(users);
        ChannelInboundHandlerAdapter here = new ChannelInboundHandlerAdapter();
        EmbeddedChannel channel = new EmbeddedChannel(here);
        ctx = channel.pipeline().context(here);
        for (byte[] b : corpus) message(b.clone());
        warm = true;
        if (decoded < corpus.size() / 2) throw new AssertionError("only " + decoded + " of the corpus's messages are some");
        long seed = a.length > 2 ? System.nanoTime() : 1, until = a.length > 2 ? System.nanoTime() + Long.parseLong(a[2]) * 1_000_000_000 : Long.MAX_VALUE, n = 0;
        Random r = new Random(seed);
        for (; n < Long.parseLong(a[1]) && System.nanoTime() < until; n++) {
            byte[] b = mutate(corpus.get(r.nextInt(corpus.size())), r), kept = b.clone();
            try {
                message(b);
                if (n % 16 == 0) scram(mutate("n,,n=simbdp_acme,r=abc,p=AAAA".getBytes(StandardCharsets.UTF_8), r));
            } catch (Throwable t) {
                Files.write(Path.of(a[0], "found-" + n), kept);
                throw t;
            }
        }
        System.out.println(corpus.size() + " files, " + n + " mutations: " + taken + " taken, " + refused + " refused, " + decoded + " decoded, " + plain + " stored as they came");
    }
}
