// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// usage: node client.js: requests URL for each line "URL CA VERSION [CERTIFICATE KEY]" of its input, and prints a line for each.
const fs = require('fs'), https = require('https'), readline = require('readline');
const one = (line) => new Promise((resolve) => {
  const [url, ca, version, cert, key] = line.trim().split(' ');
  const options = { ca: fs.readFileSync(ca), minVersion: version, maxVersion: version, agent: false };
  if (cert) Object.assign(options, { cert: fs.readFileSync(cert), key: fs.readFileSync(key) });
  https.get(url, options, (response) => { response.resume(); response.on('close', () => resolve('answered')); })
    .on('error', (error) => resolve(`error ${error.code}`));
});
(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) console.log(await one(line));
})();
