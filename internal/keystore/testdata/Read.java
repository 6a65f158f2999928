// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.Key;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.Certificate;
import java.util.Collections;
import java.util.List;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;

/**
 * Reads keystores: the arguments are type, file and password of each. It prints one line per entry: the file, the kind of the
 * entry, its alias, the SHA-256 of its certificates, and that of its private key; then, for a truststore, "accepts" and the number of
 * trust anchors; or the file, "error" and the error.
 */
public class Read {
    public static void main(String[] args) throws Exception {
        for (int i = 0; i + 2 < args.length; i += 3) {
            try {
                System.out.print(entries(args[i], args[i + 1], args[i + 2].toCharArray()));
            } catch (Exception e) {
                System.out.println(args[i + 1] + " error " + e);
            }
        }
    }

    private static String entries(String type, String file, char[] password) throws Exception {
        KeyStore store = KeyStore.getInstance(type);
        try (InputStream in = new FileInputStream(file)) {
            store.load(in, password);
        }
        List<String> aliases = Collections.list(store.aliases());
        Collections.sort(aliases);
        StringBuilder out = new StringBuilder();
        for (String alias : aliases) {
            if (store.isKeyEntry(alias)) {
                Key key = store.getKey(alias, password);
                out.append(String.format("%s key %s %s %s%n", file, alias, digest(store.getCertificateChain(alias)), hex(key.getEncoded())));
            } else {
                out.append(String.format("%s trusted %s %s -%n", file, alias, digest(store.getCertificate(alias))));
            }
        }
        boolean keys = false;
        for (String alias : aliases) {
            keys |= store.isKeyEntry(alias);
        }
        if (!keys) {
            out.append(String.format("%s accepts %d%n", file, accepted(store)));
        }
        return out.toString();
    }

    /** Returns how many trust anchors TLS finds in the store. */
    private static int accepted(KeyStore store) throws Exception {
        TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
        factory.init(store);
        int out = 0;
        for (TrustManager manager : factory.getTrustManagers()) {
            out += ((X509TrustManager) manager).getAcceptedIssuers().length;
        }
        return out;
    }

    private static String digest(Certificate... certificates) throws Exception {
        ByteArrayOutputStream all = new ByteArrayOutputStream();
        for (Certificate certificate : certificates) {
            all.write(certificate.getEncoded());
        }
        return hex(all.toByteArray());
    }

    private static String hex(byte[] data) throws Exception {
        StringBuilder out = new StringBuilder();
        for (byte b : MessageDigest.getInstance("SHA-256").digest(data)) {
            out.append(String.format("%02x", b));
        }
        return out.toString();
    }
}
