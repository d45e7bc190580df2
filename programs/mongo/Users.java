import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;
import javax.crypto.spec.SecretKeySpec;

/**
 * Who may do what. The users file has a line "USER SECRET DATABASE MAX_BYTES" for each user. DATABASE "*" is the platform's: all of them. MAX_BYTES
 * is the size of the database's file above which nothing is added; -1, or left out: no limit. The file is read again when it has changed.
 *
 * Client and server prove to each other who they are by SCRAM-SHA-256 (RFC 5802, RFC 7677). No secret passes the connection, so whoever takes over
 * the port learns none. A user keeps one salt while the server runs, so that the costly part (PBKDF2) is done once. Otherwise somebody who sends one
 * wrong proof after another would keep everybody's event loop busy.
 */
final class Users {
    record User(String name, String secret, String database, long maxBytes) {
        boolean isPlatform() { return database.equals("*"); }
    }

    /** RFC 5802's StoredKey and ServerKey. */
    private record Keys(byte[] stored, byte[] server) { }

    @SuppressWarnings("serial")
    static final class Refused extends Exception {
        Refused(String why) { super(why); }
    }

    private static final int ITERATIONS = 4096; // RFC 7677's least; secrets are 128 random bits, which no dictionary has
    private static final SecureRandom random = new SecureRandom();

    private final Path file;
    private final byte[] salting = randomBytes(32);
    private Object seen; // the file, as it was when it was read
    private Map<String, User> users = Map.of();
    private final Map<User, Keys> keys = new HashMap<>();

    Users(Path file) throws IOException { this.file = file; load(); }

    private synchronized void load() throws IOException {
        Object now = Files.readAttributes(file, "unix:ino,size,ctime");
        if (now.equals(seen)) return;
        Map<String, User> next = new HashMap<>();
        for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
            String[] w = line.trim().split("\\s+");
            if ((w.length == 3 || w.length == 4) && w[1].length() >= 16)
                next.put(w[0], new User(w[0], w[1], w[2], w.length == 4 ? Long.parseLong(w[3]) : -1));
        }
        users = next;
        keys.keySet().retainAll(users.values());
        seen = now;
    }

    private synchronized User user(String name) {
        try { load(); } catch (IOException | NumberFormatException e) { /* as it was */ }
        return users.get(name);
    }

    /** The keys of an unknown user, which nobody can prove to have. */
    private synchronized Keys keysOf(User u, byte[] salt) throws GeneralSecurityException {
        if (u == null) return new Keys(randomBytes(32), randomBytes(32));
        Keys k = keys.get(u);
        if (k == null) {
            byte[] salted = SecretKeyFactory.getInstance("PBKDF2WithHmacSHA256")
                    .generateSecret(new PBEKeySpec(u.secret().toCharArray(), salt, ITERATIONS, 256)).getEncoded();
            keys.put(u, k = new Keys(sha256(hmac(salted, utf8("Client Key"))), hmac(salted, utf8("Server Key"))));
        }
        return k;
    }

    private static byte[] sha256(byte[] b) throws GeneralSecurityException { return MessageDigest.getInstance("SHA-256").digest(b); }

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
        private byte[] salt;

        /**
         * Takes client-first-message, gives server-first-message. An unknown user gets the same kind of answer as a known one with a wrong secret.
         */
        byte[] start(byte[] payload) throws Refused {
            String s = new String(payload, StandardCharsets.UTF_8), name = null, r = null;
            if (!s.startsWith("n,,") && !s.startsWith("y,,")) throw new Refused("channel binding is not supported");
            header = s.substring(0, 3);
            bare = s.substring(3);
            for (String part : bare.split(","))
                if (part.startsWith("n=") && name == null) name = part.substring(2).replace("=2C", ",").replace("=3D", "=");
                else if (part.startsWith("r=") && r == null) r = part.substring(2);
            if (name == null || r == null || r.isEmpty()) throw new Refused("malformed SCRAM message");
            user = Users.this.user(name);
            try { salt = Arrays.copyOf(hmac(salting, utf8(name)), 28); // as many as MongoDB's, which libmongoc asks for
            } catch (GeneralSecurityException e) { throw new Refused("no SCRAM here"); }
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
                Keys k = keysOf(user, salt);
                byte[] clientKey = hmac(k.stored, utf8(message)), proof = Base64.getDecoder().decode(s.substring(at + 3));
                for (int i = 0; i < clientKey.length && i < proof.length; i++) clientKey[i] ^= proof[i];
                if (!withoutProof.equals("c=" + base64(utf8(header)) + ",r=" + nonce) || proof.length != clientKey.length
                        || !MessageDigest.isEqual(sha256(clientKey), k.stored) || user == null)
                    throw new Refused("no such user, or not its secret");
                return utf8("v=" + base64(hmac(k.server, utf8(message))));
            } catch (GeneralSecurityException | IllegalArgumentException e) {
                throw new Refused("malformed SCRAM message");
            }
        }

        User user() { return user; }
    }
}
