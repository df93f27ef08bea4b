// Gets tokens with gcp-metadata, Google's own client. The variable `GCE_METADATA_HOST` names the server. The output is
// an access token and an ID token, each in a line.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const library = join(process.env.NODE_MODULES, 'gcp-metadata/build/src/index.js');
const { instance, isAvailable } = (await import(pathToFileURL(library))).default;

if (!await isAvailable()) throw new Error('the metadata server is not available');
const account = 'service-accounts/default';
const scopes = 'https://www.googleapis.com/auth/pubsub';
const token = await instance({ property: `${account}/token`, params: { scopes } });
const params = { audience: 'https://orders.example.com', format: 'full' };
console.log(token.access_token);
console.log(await instance({ property: `${account}/identity`, params }));
