import type { Mail } from '../mails.ts';

/** The mail as an internet message (RFC 5322, text and HTML as alternatives), so that mail programs open it. */
export function mailSource(mail: Mail): string {
  const boundary = `alternative-${mail.id}`;
  const headers: [string, string][] = [
    ['From', mail.from],
    ['To', mail.to.join(', ')],
    ['Cc', mail.cc.join(', ')],
    ['Reply-To', mail.replyTo.join(', ')],
    ['Subject', encodedWords(mail.subject)],
    ['Date', new Date(mail.createdAt * 1000).toUTCString().replace('GMT', '+0000')],
    ['Message-ID', `<${mail.id}@mailbox.localhost>`],
    ...Object.entries(mail.headers),
    ['MIME-Version', '1.0'],
  ];
  const lines = headers.filter(([, value]) => value !== '').map(([name, value]) => `${name}: ${value}`);
  const parts = [
    ...(mail.text === null ? [] : [part('text/plain', mail.text)]),
    ...(mail.html === null ? [] : [part('text/html', mail.html)]),
  ];
  if (parts.length === 1) return [...lines, parts[0]].join('\r\n');
  return [
    ...lines,
    `Content-Type: multipart/alternative; boundary="${boundary}"`,
    '',
    ...parts.map((content) => `--${boundary}\r\n${content}`),
    `--${boundary}--`,
    '',
  ].join('\r\n');
}

const part = (type: string, content: string): string =>
  [
    `Content-Type: ${type}; charset=utf-8`,
    'Content-Transfer-Encoding: 8bit',
    '',
    content.replace(/\r?\n/g, '\r\n'),
  ].join('\r\n');

/** RFC 2047 for a subject that is not plain ASCII; at most 45 bytes go into one word. */
function encodedWords(text: string): string {
  if (/^[\x20-\x7e]*$/.test(text)) return text;
  const chunks: string[] = [''];
  for (const character of text) {
    const last = chunks.length - 1;
    if (Buffer.byteLength(`${chunks[last]}${character}`) > 45) chunks.push(character);
    else chunks[last] += character;
  }
  return chunks.map((chunk) => `=?utf-8?B?${Buffer.from(chunk).toString('base64')}?=`).join('\r\n ');
}
