// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Date;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLEngineResult;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

/**
 * Answers one question per line of standard input with one line, "yes" or "no" and a reason. The words of a question are
 * separated by blanks; files are in base64, "-" is an empty one.
 *
 * path MILLIS TRUSTED UNTRUSTED LEAF       Is there a path from LEAF to TRUSTED at that instant?
 * talk MILLIS VERSION CHAIN KEY ALGORITHM TRUSTED HOST   Do a client and a server with this identity, each proving it, shake hands?
 */
public final class Judge {
    private Judge() {}

    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(answer(line.split(" ")));
        }
    }

    private static String answer(String[] words) {
        try {
            switch (words[0]) {
                case "path":
                    findPath(instant(words[1]), read(words[2]), read(words[3]), read(words[4]));
                    return "yes";
                case "talk":
                    talk(instant(words[1]), words[2], read(words[3]), file(words[4]), words[5], read(words[6]), words[7]);
                    return "yes";
                default:
                    return "no: unknown question";
            }
        } catch (Exception | Error e) {
            StringBuilder reason = new StringBuilder("no: ");
            for (Throwable cause = e; cause != null; cause = cause.getCause()) {
                reason.append(cause.getClass().getSimpleName()).append(": ").append(cause.getMessage()).append("; ");
            }
            return reason.toString().replace('\n', ' ').replace('\r', ' ');
        }
    }

    private static Date instant(String millis) {
        return new Date(Long.parseLong(millis));
    }

    private static byte[] file(String word) {
        return word.equals("-") ? new byte[0] : Base64.getDecoder().decode(word);
    }

    private static List<X509Certificate> read(String word) throws Exception {
        List<X509Certificate> out = new ArrayList<>();
        byte[] data = file(word);
        if (data.length == 0) {
            return out;
        }
        Collection<? extends Certificate> found =
            CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(data));
        for (Certificate one : found) {
            out.add((X509Certificate) one);
        }
        return out;
    }

    private static Set<TrustAnchor> anchors(List<X509Certificate> trusted) {
        Set<TrustAnchor> out = new HashSet<>();
        for (X509Certificate one : trusted) {
            out.add(new TrustAnchor(one, null));
        }
        return out;
    }

    private static void findPath(Date at, List<X509Certificate> trusted, List<X509Certificate> untrusted,
            List<X509Certificate> leaf) throws Exception {
        X509CertSelector target = new X509CertSelector();
        target.setCertificate(leaf.get(0));
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(anchors(trusted), target);
        List<X509Certificate> known = new ArrayList<>(untrusted);
        known.add(leaf.get(0));
        parameters.addCertStore(CertStore.getInstance("Collection", new CollectionCertStoreParameters(known)));
        parameters.setRevocationEnabled(false);
        parameters.setDate(at);
        parameters.setMaxPathLength(-1);
        CertPathBuilder.getInstance("PKIX").build(parameters);
    }

    private static SSLContext context(Date at, List<X509Certificate> chain, byte[] key, String algorithm,
            List<X509Certificate> trusted) throws Exception {
        PrivateKey secret = KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(key));
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        store.setKeyEntry("identity", secret, new char[0], chain.toArray(new Certificate[0]));
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(store, new char[0]);
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(anchors(trusted), new X509CertSelector());
        parameters.setRevocationEnabled(false);
        parameters.setDate(at);
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(new CertPathTrustManagerParameters(parameters));
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private static void talk(Date at, String version, List<X509Certificate> chain, byte[] key, String algorithm,
            List<X509Certificate> trusted, String host) throws Exception {
        SSLContext context = context(at, chain, key, algorithm, trusted);
        SSLEngine client = context.createSSLEngine(host, 443);
        SSLEngine server = context.createSSLEngine();
        client.setUseClientMode(true);
        SSLParameters parameters = client.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        client.setSSLParameters(parameters);
        server.setUseClientMode(false);
        server.setNeedClientAuth(true);
        for (SSLEngine engine : new SSLEngine[] {client, server}) {
            engine.setEnabledProtocols(new String[] {version});
            engine.beginHandshake();
        }
        exchange(client, server);
        if (!client.getSession().getPeerCertificates()[0].equals(chain.get(0))
                || !server.getSession().getPeerCertificates()[0].equals(chain.get(0))) {
            throw new IllegalStateException("a peer has seen another certificate");
        }
    }

    /** Hands records to and fro until both have finished, and each has read a byte of the other. */
    private static void exchange(SSLEngine client, SSLEngine server) throws Exception {
        ByteBuffer toServer = ByteBuffer.allocate(1 << 17);
        ByteBuffer toClient = ByteBuffer.allocate(1 << 17);
        ByteBuffer atServer = ByteBuffer.allocate(1 << 17);
        ByteBuffer atClient = ByteBuffer.allocate(1 << 17);
        for (int round = 0; round < 200; round++) {
            step(client, toServer, toClient, atClient);
            step(server, toClient, toServer, atServer);
            if (atServer.position() > 0 && atClient.position() > 0) {
                return;
            }
        }
        throw new IllegalStateException("the handshake does not end");
    }

    private static void step(SSLEngine engine, ByteBuffer out, ByteBuffer in, ByteBuffer read) throws Exception {
        for (Runnable task = engine.getDelegatedTask(); task != null; task = engine.getDelegatedTask()) {
            task.run();
        }
        in.flip();
        if (in.hasRemaining()) {
            engine.unwrap(in, read);
        }
        in.compact();
        for (Runnable task = engine.getDelegatedTask(); task != null; task = engine.getDelegatedTask()) {
            task.run();
        }
        SSLEngineResult.HandshakeStatus status = engine.getHandshakeStatus();
        boolean done = status == SSLEngineResult.HandshakeStatus.NOT_HANDSHAKING;
        if (status == SSLEngineResult.HandshakeStatus.NEED_WRAP || done && out.position() == 0) {
            engine.wrap(ByteBuffer.wrap(done ? new byte[] {1} : new byte[0]), out);
        }
    }
}
