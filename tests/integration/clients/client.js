// npm socks: client.js connect|associate PROXY PORT ADDRESS NAME ECHO-PORT
//            client.js bind PROXY PORT ADDRESS
'use strict';
const dgram = require('dgram');
const { SocksClient } = require('socks');

const [mode, proxyHost, proxyPort, address, name, port] = process.argv.slice(2);
const proxy = { host: proxyHost, port: Number(proxyPort), type: 5 };
const timeout = 20000;

function fail(error) {
  console.error(error);
  process.exit(1);
}

function expect(got, expected) {
  if (got !== expected) throw new Error(`expected ${expected}, got ${got}`);
}

function readText(socket, length) {
  return new Promise((resolve, reject) => {
    let text = '';
    socket.on('data', (part) => {
      text += part;
      if (text.length >= length) resolve(text);
    });
    socket.on('error', reject);
    socket.on('end', () => reject(new Error(`the end after ${text}`)));
    socket.resume();
  });
}

async function connect(host) {
  const { socket } = await SocksClient.createConnection({
    proxy, timeout, command: 'connect', destination: { host, port: Number(port) },
  });
  const answer = readText(socket, 5);
  socket.write('hello');
  expect(await answer, 'hello');
  socket.destroy();
}

function bind() {
  return new Promise((resolve, reject) => {
    const client = new SocksClient({
      proxy, timeout, command: 'bind', destination: { host: address, port: 0 },
    });
    client.on('error', reject);
    client.on('bound', ({ remoteHost }) => {
      console.log(`bound ${remoteHost.host}:${remoteHost.port}`);
    });
    client.on('established', async ({ socket, remoteHost }) => {
      console.log(`peer ${remoteHost.host}:${remoteHost.port}`);
      expect(await readText(socket, 5), 'world');
      socket.end('hello', resolve);
    });
    client.connect();
  });
}

function exchange(socket, relay, host) {
  const data = Buffer.from(`hello ${host}`);
  const frame = SocksClient.createUDPFrame({ remoteHost: { host, port: Number(port) }, data });
  return new Promise((resolve, reject) => {
    socket.once('message', (message) => {
      const answer = SocksClient.parseUDPFrame(message);
      try {
        expect(answer.data.toString(), data.toString());
        expect(`${answer.remoteHost.host}:${answer.remoteHost.port}`, `${address}:${port}`);
        resolve();
      } catch (error) {
        reject(error);
      }
    });
    socket.send(frame, relay.port, relay.host);
  });
}

function associate() {
  return new Promise((resolve, reject) => {
    const client = new SocksClient({
      proxy, timeout, command: 'associate', destination: { host: '0.0.0.0', port: 0 },
    });
    client.on('error', reject);
    client.on('established', async (info) => {
      const socket = dgram.createSocket('udp4');
      try {
        await exchange(socket, info.remoteHost, address);
        await exchange(socket, info.remoteHost, name);
        socket.close();
        info.socket.destroy();
        resolve();
      } catch (error) {
        reject(error);
      }
    });
    client.connect();
  });
}

async function main() {
  setTimeout(() => fail(new Error('no answer in time')), 30000).unref();
  if (mode === 'connect') {
    await connect(address);
    await connect(name);
  } else if (mode === 'bind') {
    await bind();
  } else {
    await associate();
  }
  console.log('done');
}

main().catch(fail);
