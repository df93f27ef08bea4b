// GitHub's own client `@octokit/auth-app` gets a token of an app's installation, and calls the API with the token. The
// program reads its settings as JSON from the variable `SETTINGS`, and prints JSON.

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const library = (path) => import(pathToFileURL(join(process.env.NODE_MODULES, '@octokit', path)));
const { createAppAuth } = await library('auth-app/dist-node/index.js');
const { request } = await library('request/dist-bundle/index.js');

const { baseUrl, appId, privateKey, installationId, ...wanted } = JSON.parse(process.env.SETTINGS);
const own = request.defaults({ baseUrl, headers: { 'user-agent': 'interop' } });
const auth = createAppAuth({ appId, privateKey, installationId, request: own, log: { warn() {} } });
const print = (result) => console.log(JSON.stringify(result));

try {
  // With the hook, the client corrects its clock and renews its tokens.
  const { data } = await own('GET /orgs/{org}/installation', { org: 'octo-org', request: { hook: auth.hook } });
  const issued = await auth({ type: 'installation', ...wanted });
  const { status } = await own('GET /installation/repositories', { request: { hook: auth.hook } });
  print({ installation: data.id, issued, status });
} catch ({ status, message }) {
  print({ status, message });
}
