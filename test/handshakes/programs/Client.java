// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** usage: java Client.java: requests URL for each line "URL CA VERSION [CERTIFICATE KEY]" of its input, and prints a line for each. */
public class Client {
    public static void main(String[] args) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            System.out.println(request(line.trim().split(" ")));
        }
    }

    static String request(String[] words) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null, null);
        for (Certificate authority : certificates(words[1])) {
            trusted.setCertificateEntry("authority" + trusted.size(), authority);
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);
        KeyManager[] managers = null;
        if (words.length > 3) {
            KeyStore own = KeyStore.getInstance("PKCS12");
            own.load(null, null);
            own.setKeyEntry("own", key(words[4]), new char[0], certificates(words[3]));
            KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
            keys.init(own, new char[0]);
            managers = keys.getKeyManagers();
        }
        // The name of the context fixes the highest version; the server's own limit fixes the lowest.
        SSLContext context = SSLContext.getInstance(words[2]);
        context.init(managers, trust.getTrustManagers(), null);
        var connection = (HttpsURLConnection) URI.create(words[0]).toURL().openConnection();
        connection.setSSLSocketFactory(context.getSocketFactory());
        connection.setConnectTimeout(60000);
        connection.setReadTimeout(60000);
        try {
            connection.getResponseCode();
            return "answered";
        } catch (java.io.IOException e) {
            return "error " + e.getClass().getSimpleName();
        } finally {
            connection.disconnect();
        }
    }

    static Certificate[] certificates(String file) throws Exception {
        try (var in = Files.newInputStream(Path.of(file))) {
            return CertificateFactory.getInstance("X.509").generateCertificates(in).toArray(new Certificate[0]);
        }
    }

    static PrivateKey key(String file) throws Exception {
        String text = Files.readString(Path.of(file)).replaceAll("-----[A-Z ]*-----|\\s", "");
        return KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(text)));
    }
}
