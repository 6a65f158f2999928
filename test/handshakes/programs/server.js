// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// usage: node server.js PORT KEY CERTIFICATE AUTHORITIES MINIMUM REVOCATIONS: an HTTPS server that requires a client certificate. REVOCATIONS
// may be empty.
const fs = require('fs'), https = require('https');
const [port, key, cert, ca, minVersion, crl] = process.argv.slice(2);
https.createServer({
  key: fs.readFileSync(key), cert: fs.readFileSync(cert), ca: fs.readFileSync(ca), minVersion, requestCert: true, rejectUnauthorized: true,
  crl: crl ? fs.readFileSync(crl) : undefined,
}, (request, response) => response.end('ok\n')).listen(Number(port), '127.0.0.1');
