import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * Who may do what: the access file has a line "USER SECRET DATABASE" for each user; DATABASE "*" is the platform's, every one. It is
 * read again when a user is unknown.
 *
 * Users prove themselves, and are proved to, by SCRAM-SHA-256 (RFC 5802, RFC 7677): no secret passes the connection, so whoever
 * takes the port learns none.
 */
final class Access {
    record User(String name, String secret, String database) {
        boolean isPlatform() { return database.equals("*"); }
    }

    @SuppressWarnings("serial")
    static final class Refused extends Exception {
        Refused(String why) { super(why); }
    }

    private static final int ITERATIONS = 4096; // RFC 7677's least; secrets are 128 random bits, which no dictionary has
    private static final SecureRandom random = new SecureRandom();

    private final Path file;
    private volatile Map<String, User> users = Map.of();

    Access(Path file) throws IOException { this.file = file; load(); }

    private synchronized void load() throws IOException {
        Map<String, User> next = new HashMap<>();
        for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
            String[] w = line.trim().split("\\s+");
            if (w.length == 3 && w[1].length() >= 16) next.put(w[0], new User(w[0], w[1], w[2]));
        }
        users = next;
    }

    private User user(String name) {
        User u = users.get(name);
        if (u == null)
            try { load(); u = users.get(name); } catch (IOException e) { return null; }
        return u;
    }

    private static byte[] hmac(byte[] key, byte[] text) throws GeneralSecurityException {
        Mac m = Mac.getInstance("HmacSHA256");
        m.init(new SecretKeySpec(key, "HmacSHA256"));
        return m.doFinal(text);
    }

    private static byte[] utf8(String s) { return s.getBytes(StandardCharsets.UTF_8); }
    private static String base64(byte[] b) { return Base64.getEncoder().encodeToString(b); }

    private static byte[] randomBytes(int n) {
        byte[] b = new byte[n];
        random.nextBytes(b);
        return b;
    }

    /** One exchange with one client. */
    final class Scram {
        private User user;
        private String bare, first, nonce, header;
        private final byte[] salt = randomBytes(28); // as many as MongoDB's, which libmongoc asks for

        /** Takes client-first-message, gives server-first-message. An unknown user is told apart from a wrong secret by nothing. */
        byte[] start(byte[] payload) throws Refused {
            String s = new String(payload, StandardCharsets.UTF_8), name = null, r = null;
            if (!s.startsWith("n,,") && !s.startsWith("y,,")) throw new Refused("channel binding is not supported");
            header = s.substring(0, 3);
            bare = s.substring(3);
            for (String part : bare.split(","))
                if (part.startsWith("n=") && name == null) name = part.substring(2).replace("=2C", ",").replace("=3D", "=");
                else if (part.startsWith("r=") && r == null) r = part.substring(2);
            if (name == null || r == null || r.isEmpty()) throw new Refused("malformed SCRAM message");
            user = Access.this.user(name);
            nonce = r + base64(randomBytes(18));
            first = "r=" + nonce + ",s=" + base64(salt) + ",i=" + ITERATIONS;
            return utf8(first);
        }

        /** Takes client-final-message, gives server-final-message. */
        byte[] finish(byte[] payload) throws Refused {
            String s = new String(payload, StandardCharsets.UTF_8);
            int at = s.lastIndexOf(",p=");
            if (first == null || at < 0) throw new Refused("malformed SCRAM message");
            String withoutProof = s.substring(0, at), message = bare + "," + first + "," + withoutProof;
            try {
                byte[] salted = SecretKeyFactory.getInstance("PBKDF2WithHmacSHA256")
                        .generateSecret(new PBEKeySpec((user == null ? base64(salt) : user.secret()).toCharArray(), salt, ITERATIONS, 256)).getEncoded();
                byte[] clientKey = hmac(salted, utf8("Client Key"));
                byte[] signature = hmac(MessageDigest.getInstance("SHA-256").digest(clientKey), utf8(message));
                byte[] proof = Base64.getDecoder().decode(s.substring(at + 3));
                for (int i = 0; i < signature.length; i++) signature[i] ^= clientKey[i];
                if (!withoutProof.equals("c=" + base64(utf8(header)) + ",r=" + nonce) || !MessageDigest.isEqual(signature, proof) || user == null)
                    throw new Refused("no such user, or not its secret");
                return utf8("v=" + base64(hmac(hmac(salted, utf8("Server Key")), utf8(message))));
            } catch (GeneralSecurityException | IllegalArgumentException e) {
                throw new Refused("malformed SCRAM message");
            }
        }

        User user() { return user; }
    }
}
