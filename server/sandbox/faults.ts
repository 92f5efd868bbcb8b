import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Answer, send } from './send.ts';
import type { World } from './world.ts';

export async function spoil(
  _world: World,
  _request: FastifyRequest,
  reply: FastifyReply,
  perform: () => Answer,
): Promise<FastifyReply> {
  return send(reply, perform());
}
